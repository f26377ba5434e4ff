"""What a request costs: instructions by callgrind's count, which sees the program alone, and system calls by strace's, since each is worth thousands of those;
of one worker, its access log and everything else in the process.

Two runs of each workload differ only in their number of requests, so that the difference is the requests' alone: start, configuration and the first
connections cancel out. One request at a time: the order of events is always the same, but for the ticks of a clock, which are few.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress

from bench.load import read_message
from bench.configs import BACKEND, ONE, nodegate

FEW, MANY = 500, 2500
TOLERANCE = 0.03
PORT, ADMIN = 8116, 8216
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 19\r\nDate: Thu, 26 Nov 2026 06:00:00 GMT\r\n\r\nhello from backend\n"
# As Cloudflare sends them on a Flexible SSL site: the request that most of our users have.
CLOUDFLARE = ("GET /v1/items?page=2 HTTP/1.1\r\nHost: api.example.com\r\nConnection: Keep-Alive\r\nAccept-Encoding: gzip\r\nCF-IPCountry: DE\r\n"
              "X-Forwarded-For: 198.51.100.7\r\nCF-RAY: 8c1f2a3b4c5d6e7f-FRA\r\nX-Forwarded-Proto: https\r\nCF-Visitor: {\"scheme\":\"https\"}\r\n"
              "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\nAccept: application/json\r\nAccept-Language: de\r\n"
              "Cookie: session=0123456789abcdef0123456789abcdef\r\nCF-Connecting-IP: 198.51.100.7\r\nCDN-Loop: cloudflare; loops=1\r\n\r\n").encode()
SMALL = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 16384\r\n\r\n" + b"x" * 16384

# Name, request, whether each has a connection of its own, what Nodegate is told besides.
WORKLOADS = (
    ("small GET", SMALL, False, ()),
    ("GET with the headers that Cloudflare adds, from a trusted peer", CLOUDFLARE, False, ("--trusted-proxies", "127.0.0.1/32")),
    ("small GET on a new connection", SMALL, True, ()),
    ("POST of 16 KiB", POST, False, ()),
)


def backend(listener):
    def serve(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = b""
        with connection:
            while (rest := read_message(connection, rest)) is not None:
                connection.sendall(ANSWER)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def connect():
    return socket.create_connection(("127.0.0.1", PORT), timeout=30)


def executed(out):
    return int(re.search(r"^(?:summary|totals): (\d+)", out, re.M)[1])


def called(out):
    # Share of the time, seconds, microseconds each, calls, errors if there were any, name; between two lines of dashes.
    _, rows, _ = re.split(r"^-.*\n", out, flags=re.M)
    return sum(int(row.split()[3]) for row in rows.splitlines())


# What is counted, by which program, and how that tells.
METERS = (
    ("instructions", ("valgrind", "--tool=callgrind", "--callgrind-out-file={}"), executed, "{:,.0f}"),
    ("system calls", ("strace", "--follow-forks", "--summary-only", "--output={}"), called, "{:.2f}"),
)


def measured(meter, read, program, count, request, anew, options, run):
    """What the whole process did for so many requests."""
    out = run / "meter.out"
    out.unlink(missing_ok=True)
    command = [*(part.format(out) for part in meter), program, "serve", "--manifests", str(run / "routes.yaml"), "--http", f"127.0.0.1:{PORT}",
               "--admin", f"127.0.0.1:{ADMIN}", "--workers", "1", "--access-log", str(run / "access.log"), *options]
    with open(run / "errors", "wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors)
    try:
        connection, deadline = None, time.monotonic() + 60
        while connection is None:
            try:
                connection = connect()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"nodegate doesn't come up under {meter[0]}: {(run / 'errors').read_text()[-3000:]}")
                time.sleep(0.1)
        for number in range(count):
            if anew and number:
                connection.close()
                connection = connect()
            connection.sendall(request)
            if read_message(connection) is None:
                sys.exit(f"the connection ended at request {number}")
        connection.close()
        os.kill(metered(process.pid), signal.SIGTERM)
        if process.wait(60) != 0:
            sys.exit(f"nodegate ended with {process.returncode} under {meter[0]}: {(run / 'errors').read_text()[-3000:]}")
    finally:
        if process.poll() is None:
            with suppress(OSError):
                os.kill(metered(process.pid), signal.SIGKILL)
            process.kill()
            process.wait()
    lines = (run / "access.log").read_text().splitlines()
    served = sum('"status":200' in line for line in lines)
    os.truncate(run / "access.log", 0)
    if served != count:
        sys.exit(f"{served} of {count} requests were served: {lines[:1]}")
    return read(out.read_text())


def metered(pid):
    """The process that is looked at: a child, or, of a meter that takes its place, the same."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the nodegate to measure, built as it ships")
    parser.add_argument("--baseline", type=pathlib.Path, required=True, help="what the last one that was accepted cost")
    parser.add_argument("--accept", action="store_true", help="write the figures as the new baseline")
    arguments = parser.parse_args()
    host, port = BACKEND.split(":")
    listener = socket.create_server((host, int(port)), backlog=128)
    threading.Thread(target=backend, args=(listener,), daemon=True).start()
    known = json.loads(arguments.baseline.read_text()) if arguments.baseline.exists() else {}
    figures, unknown, worse, better = {}, [], [], []
    with tempfile.TemporaryDirectory() as directory:
        run = pathlib.Path(directory)
        (run / "routes.yaml").write_text(nodegate(ONE))
        for what, meter, read, form in METERS:
            for name, request, anew, options in WORKLOADS:
                few, many = (measured(meter, read, arguments.program, count, request, anew, options, run) for count in (FEW, MANY))
                cost = (many - few) / (MANY - FEW)
                cost = round(cost) if cost > 100 else round(cost, 2)
                figures.setdefault(what, {})[name] = cost
                before = known.get(what, {}).get(name)
                name = f"{name}, {what}"
                if cost <= 0:
                    sys.exit(f"{name}: {few:,} for {FEW} requests and {many:,} for {MANY}: that can't be")
                change = f"{cost / before - 1:+.1%} to the baseline's {form.format(before)}" if before else "no baseline"
                print(f"{name}: {form.format(cost)}, {change}", flush=True)
                if before is None:
                    unknown.append(name)
                elif cost > before * (1 + TOLERANCE):
                    worse.append(name)
                elif cost < before * (1 - TOLERANCE):
                    better.append(name)
    if arguments.accept:
        arguments.baseline.write_text(json.dumps(figures, indent=2) + "\n")
    elif unknown:
        sys.exit(f"the baseline says nothing of {', '.join(unknown)}: `loadtest/guard/run --accept`, and commit baseline.json")
    elif worse:
        sys.exit(f"more than {TOLERANCE:.0%} dearer than the baseline: {', '.join(worse)}. Find out why (callgrind on a release build, which has "
                 "its symbols); after a change of Cargo.lock, of the version or of Rust, train the optimiser anew (loadtest/profile/run), since its profile is for the ones before; or, if it is worth that, accept it: `loadtest/guard/run --accept`, and commit baseline.json with the reason")
    elif better:
        print(f"cheaper than the baseline: {', '.join(better)}. Keep that: `loadtest/guard/run --accept`, and commit baseline.json")


if __name__ == "__main__":
    main()
