"""The load: wrk, oha and h2load, and for what neither of them does, a few sockets of our own. All of it runs on the load's core."""

import json
import os
import pathlib
import re
import selectors
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

from .sockets import frame, unframe

HERE = pathlib.Path(__file__).resolve().parent


def wrk(url, host, connections, seconds, close=False, **environment):
    """A closed loop: each connection sends as soon as it has its answer. Latencies in microseconds."""
    command = ["wrk", "-t1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s", "-s", str(HERE / "wrk.lua"), "-H", f"Host: {host}"]
    command += ["-H", "Connection: close"] if close else []
    told = {f"BENCH_{name.upper()}": str(value) for name, value in environment.items()}
    done = subprocess.run([*command, url], capture_output=True, text=True, env={**os.environ, **told})
    if done.returncode:
        sys.exit(f"wrk: {done.stderr or done.stdout}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "rate": result["requests"] / result["seconds"]}


def oha(tool, url, host, connections, *, seconds=None, requests=None, rate=None, body=None, method="GET"):
    """Requests at a fixed rate, each timed from its turn, however long it then waits for a connection; or a number of them."""
    command = [tool, "--no-tui", "--output-format", "json", "-c", str(connections), "-m", method, "-t", "60s"]
    # By the name that the server is to hear in the handshake.
    port = url.partition("://")[2].partition("/")[0].rpartition(":")[2]
    command += ["--insecure", "--connect-to", f"{host}:{port}:127.0.0.1:{port}"] if url.startswith("https:") else ["--host", host]
    command += ["-z", f"{seconds}s"] if seconds else ["-n", str(requests)]
    command += ["-q", str(rate), "--latency-correction"] if rate else []
    command += ["-D", str(body)] if body else []
    done = subprocess.run([*command, url], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"oha: {done.stderr or done.stdout}")
    answer = json.loads(done.stdout)
    codes, errors = answer["statusCodeDistribution"], answer["errorDistribution"]
    # What is under way when the time is over isn't lost.
    failed = sum(count for error, count in errors.items() if "deadline" not in error) + sum(count for code, count in codes.items() if code != "200")
    latency = {name: answer["latencyPercentiles"][name] or 0 for name in ("p50", "p99", "p99.9")}
    # What couldn't be sent in time counts as failed, too: the rest says nothing of the rate then.
    if rate and seconds:
        failed = max(failed, int(0.97 * rate * seconds) - sum(codes.values()), 0)
    return {"requests": sum(codes.values()), "seconds": answer["summary"]["total"], "failed": failed, "rate": answer["summary"]["requestsPerSec"],
            **{name: value * 1e6 for name, value in latency.items()}}


def h2load(port, host, connections, streams, seconds, http1=False):
    """A closed loop over TLS: each connection has so many requests under way all the time."""
    command = ["h2load", "-D", str(seconds), "-t", "1", "-c", str(connections), "-m", str(streams), f"--connect-to=127.0.0.1:{port}", *(["--h1"] if http1 else [])]
    done = subprocess.run([*command, f"https://{host}/"], capture_output=True, text=True)
    # What is under way when the time is over has a status, too, or none.
    found = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout\s+status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    if done.returncode or not found:
        sys.exit(f"h2load: {done.stderr or done.stdout}")
    failed, errored, late, good, *bad = map(int, found.groups())
    return {"requests": good, "seconds": seconds, "failed": failed + errored + late + sum(bad), "rate": good / seconds}


def read_message(connection, rest=b""):
    """Reads one request or response whose body has a length, or none; what came behind it. None: the other side has closed."""
    def more():
        piece = connection.recv(65536)
        if not piece:
            raise EOFError
        return piece

    try:
        while b"\r\n\r\n" not in rest:
            rest += more()
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        left = int(length[1]) if length else 0
        while len(rest) < left:
            rest += more()
    except EOFError:
        return None
    return rest[left:]


@contextmanager
def idle(port, host, count):
    """Connections that have had one answer each, and are kept."""
    connections = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connections.append(connection)
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            if read_message(connection) is None:
                raise OSError(f"port {port} closed its connection {len(connections)}")
        yield connections
    finally:
        for connection in connections:
            connection.close()


def websockets(port, host, connections, seconds, size=64):
    """Each connection sends a message and waits for its echo, again and again."""
    message = frame(b"x" * size, mask=True)
    selector = selectors.DefaultSelector()
    rest = {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(f"GET /socket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                break
            head += piece
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"no WebSocket through port {port}: {head[:200]!r}")
        rest[connection] = b""
        selector.register(connection, selectors.EVENT_READ)
    count, failed, start = 0, 0, time.monotonic()
    for connection in rest:
        connection.sendall(message)
    while time.monotonic() < start + seconds:
        for key, _ in selector.select(1):
            connection = key.fileobj
            data = connection.recv(65536)
            if not data:
                failed += 1
                selector.unregister(connection)
                continue
            payloads, rest[connection] = unframe(rest[connection] + data)
            count += len(payloads)
            if payloads:
                connection.sendall(message * len(payloads))
    took = time.monotonic() - start
    for connection in rest:
        connection.close()
    return {"requests": count, "seconds": took, "failed": failed, "rate": count / took}
