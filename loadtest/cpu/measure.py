#!/usr/bin/env python3
"""CPU microseconds per request, from the kernel's own accounting of each proxy's processes over the requests that wrk counted.

Rounds are interleaved, so that whatever else the machine does falls on every row alike; the median round is printed, and every row's ratio to the first.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request

run, connections, seconds, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
peers = {name: int(port) for name, port in (peer.split("=") for peer in sys.argv[5:])}
TICK = 1e6 / os.sysconf("SC_CLK_TCK")


def processes(name):
    root = int(open(f"{run}/{name}.root").read())
    children = subprocess.run(["pgrep", "-P", str(root)], capture_output=True, text=True).stdout.split()
    return [root, *map(int, children)]


def cpu(name):
    user = system = 0
    for pid in processes(name):
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user * TICK, system * TICK


def resident(name):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) for pid in processes(name)) / 1024


def wait_for(port):
    for _ in range(100):
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "api.example.com"}), timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}: see {run}")


def measure(name, port):
    before = cpu(name)
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c", connections, "-d", f"{seconds}s", "--latency", "-H", "Host: api.example.com", f"http://127.0.0.1:{port}/"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = cpu(name)
    requests = int(re.search(r"(\d+) requests in", out)[1])
    if failed := re.search(r"Non-2xx.*: (\d+)|Socket errors: (.*)", out):
        sys.exit(f"{name}: {failed[0]}")
    user, system = ((after[i] - before[i]) / requests for i in (0, 1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    p50, p99 = (re.search(rf"^\s+{q}%\s+(\S+)", out, re.M)[1] for q in (50, 99))
    return user + system, user, system, rate, p50, p99, resident(name)


for port in peers.values():
    wait_for(port)
rows = {name: [] for name in peers}
for number in range(rounds):
    for name, port in peers.items():
        rows[name].append(measure(name, port))
        print(f"round {number + 1} of {rounds}: {name} {rows[name][-1][0]:.1f} us", file=sys.stderr)

median = {name: sorted(row)[len(row) // 2] for name, row in rows.items()}
first = next(iter(median.values()))[0]
print(f"{'':10} {'us/request':>10} {'ratio':>6} {'user':>6} {'system':>6} {'requests/s':>10} {'p50':>9} {'p99':>9} {'MB':>6}")
for name, (total, user, system, rate, p50, p99, megabytes) in median.items():
    print(f"{name:10} {total:10.1f} {total / first:6.2f} {user:6.1f} {system:6.1f} {rate:10.0f} {p50:>9} {p99:>9} {megabytes:6.1f}")
