-- What wrk sends, told by the environment, and what came of it, as one line of JSON.
local method = os.getenv("BENCH_METHOD") or "GET"
local size = tonumber(os.getenv("BENCH_BODY") or "0")
local hosts = tonumber(os.getenv("BENCH_HOSTS") or "0")
local paths = tonumber(os.getenv("BENCH_PATHS") or "0")

wrk.method = method
if size > 0 then
  wrk.body = string.rep("x", size)
end

-- Only where requests differ: wrk sends a prepared one much faster.
if hosts > 0 or paths > 0 then
  local requests, next_one = {}, 0
  function init()
    for number = 0, math.max(hosts, paths) - 1 do
      local headers = { Host = hosts > 0 and "h" .. number .. ".example.com" or wrk.headers.Host }
      requests[number] = wrk.format(method, paths > 0 and "/r" .. number or "/", headers)
    end
  end
  function request()
    next_one = (next_one + 1) % (#requests + 1)
    return requests[next_one]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\n{"requests":%d,"seconds":%f,"bytes":%d,"failed":%d,"p50":%f,"p99":%f,"p99.9":%f}\n', summary.requests, summary.duration / 1e6,
    summary.bytes, errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9)))
end
