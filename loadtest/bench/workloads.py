"""What is measured. Each workload is a load, what its cost is counted by, and the routes it needs."""

from dataclasses import dataclass, replace
from typing import Callable

from . import load, tls
from .configs import BACKEND, HOST, MANY, ONE, PATHS, SECURE, TEN, Routes
from .peers import PORTS

MIB = 1 << 20
PROXIES = ("nodegate", "nginx", "haproxy", "envoy", "traefik", "caddy")
WITH_FLOOR = ("relay", *PROXIES)
WITH_BUFFERS = ("relay", "nodegate", "nginx", "haproxy", "haproxy-64k", "envoy", "traefik", "caddy")


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    # What the cost is counted by: a result's `requests` times `units` are so many of it.
    unit: str
    run: Callable
    routes: Routes = ONE
    peers: tuple = WITH_FLOOR
    units: float = 1
    # Seconds from the start of the load until it is counted.
    settle: int = 0


def url(peer, path="/"):
    return f"http://{BACKEND}{path}" if peer == "direct" else f"http://{HOST}:{PORTS[peer]}{path}"


def closed_loop(path="/", connections=64, **options):
    def run(bench, peer, seconds):
        return load.wrk(url(peer, path), bench.host, connections, seconds, **options)
    return run


def counted(path, connections, requests, method="GET", body=None):
    """So many requests for each second of the others' time: what wouldn't end in time would be paid and not counted."""
    def run(bench, peer, seconds):
        return load.oha(bench.tools["oha"], url(peer, path), bench.host, connections, requests=max(connections, requests * seconds), method=method,
                        body=body and bench.run / "files" / body)
    return run


def fixed_rate(rate, secure=False):
    """Latencies at a rate that every proxy can bear; and without a proxy, which is what the load and the backend take themselves."""
    def run(bench, peer, seconds):
        target = f"https://{bench.host}:{PORTS[peer]}/" if secure else url(peer)
        return load.oha(bench.tools["oha"], target, bench.host, 64, seconds=2 * seconds, rate=rate)
    return Workload("rate", f"small GET, {rate} a second, 64 keep-alive connections", "request", run, peers=("direct", *WITH_FLOOR))


def websockets(bench, peer, seconds):
    return load.websockets(PORTS[peer], bench.host, 64, seconds)


def encrypted(connections, streams, **options):
    def run(bench, peer, seconds):
        return load.h2load(PORTS[peer], bench.host, connections, streams, seconds, **options)
    return run


def handshakes(version, resumed):
    what = f"{'resumed' if resumed else 'full'} handshake, {version}, ECDSA P-256"
    run = lambda bench, peer, seconds: tls.handshakes(PORTS[peer], bench.host, version, resumed, seconds)
    return Workload(f"{'resumed' if resumed else 'full'}-{version[-3:]}", what, "handshake", run, SECURE, PROXIES)


GET_64 = Workload("get-64", "small GET, 64 keep-alive connections", "request", closed_loop())
TLS_64 = Workload("tls", "small GET over TLS, 64 keep-alive connections", "request", encrypted(64, 1, http1=True), SECURE, PROXIES, settle=1)
# The cost of a second worker: two on both cores, which the load needs, too.
WORKERS = replace(GET_64, name="workers", peers=("nodegate", "nodegate-2"))
# The cost of many hosts: a Nodegate that has them beside one that has ten, each asked for all of its own.
HOSTS = Workload("hosts", "small GET, 64 connections, 10,000 hosts beside 10", "request",
                 lambda bench, peer, seconds: closed_loop(hosts=10 if peer == "nodegate-few" else 10_000)(bench, peer, seconds), MANY, ("nodegate", "nodegate-few"))
WORKLOADS = (
    GET_64,
    Workload("get-1", "small GET, 1 keep-alive connection", "request", closed_loop(connections=1)),
    Workload("get-1000", "small GET, 1,000 keep-alive connections", "request", closed_loop(connections=1000), settle=1),
    Workload("connect", "small GET, a new connection for each, 64 at a time (latency without the connecting)", "request", closed_loop(close=True)),
    Workload("post-16k", "POST of 16 KiB, 64 connections", "request", closed_loop("/upload", method="POST", body=16 << 10), peers=WITH_BUFFERS),
    Workload("down-1m", "download of 1 MiB, 16 connections", "MiB", closed_loop("/files/1m", 16), peers=WITH_BUFFERS),
    Workload("up-1m", "upload of 1 MiB, 16 connections", "MiB", closed_loop("/upload", 16, method="POST", body=MIB), peers=WITH_BUFFERS),
    Workload("down-100m", "download of 100 MiB, 4 connections", "MiB", counted("/files/100m", 4, 6), peers=WITH_BUFFERS, units=100),
    Workload("up-100m", "upload of 100 MiB, 4 connections", "MiB", counted("/upload", 4, 4, "POST", "100m"), peers=WITH_BUFFERS, units=100),
    Workload("websocket", "WebSocket, messages of 64 bytes and their echoes, 64 connections", "message and echo", websockets),
    Workload("paths-100", "small GET, 100 paths of one host, 64 connections", "request", closed_loop(paths=100), PATHS, PROXIES),
    Workload("hosts-10", "small GET, 10 hosts, 64 connections", "request", closed_loop(hosts=10), TEN, PROXIES),
    Workload("hosts-10000", "small GET, 10,000 hosts, 64 connections", "request", closed_loop(hosts=10_000), MANY, PROXIES),
    TLS_64,
    Workload("http2", "small GET over HTTP/2, 4 connections with 100 streams each", "request", encrypted(4, 100), SECURE, PROXIES, settle=1),
    Workload("http2-64", "small GET over HTTP/2, 64 connections with 1 stream each", "request", encrypted(64, 1), SECURE, PROXIES, settle=1),
    *(handshakes(version, resumed) for version in ("TLS 1.3", "TLS 1.2") for resumed in (False, True)),
)
