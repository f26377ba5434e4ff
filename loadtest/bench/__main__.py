"""Measures Nodegate and its peers side by side, and writes what came of it: raw data, plots, and a page of tables.

Each proxy has core 0 to itself while it is measured; the load and the backend share core 1. Rounds are interleaved, so that whatever else the machine does
falls on every proxy alike, and the median round counts. CPU time is the kernel's own accounting of a proxy's processes.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

from . import configs, load, peers, report, tls
from .configs import MANY, ONE, SECURE, TEN
from .peers import LOAD_CORE, PORTS, Fleet
from .workloads import GET_64, HOSTS, MIB, PROXIES, TLS_64, WITH_BUFFERS, WITH_FLOOR, WORKERS, WORKLOADS, fixed_rate

EDIT_INTERVAL_S = 0.1
# Two files, four uploads at the backend, and a round's access logs.
SPACE = 1 << 30
# What is measured beside the workloads, and with which routes.
EXTRA = {"rate": ONE, "edits": ONE, "workers": ONE, "hosts": MANY, "stuck": SECURE}
# Connections of each kind that get nowhere: more than their deadline lets through in a round.
STUCK = 500
# Idle connections: how they are reached, and with which protocol.
IDLE = {"idle": (ONE, None), "idle-tls": (SECURE, tls.HTTP1), "idle-http2": (SECURE, tls.HTTP2)}


class Bench:
    def __init__(self, arguments, run):
        self.tools = peers.find_tools(arguments)
        self.run, self.host = run, ONE.hosts[0]
        self.rounds, self.seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
        self.quick = arguments.quick
        self.idle_rounds = min(self.rounds, 5)
        self.idle_connections = 1000 if arguments.quick else max(min(10_000, peers.connections() // 1000 * 1000), 200)
        self.only = set(arguments.only.split(",")) if arguments.only else None
        self.started, self.done, self.all = time.monotonic(), 0, 0

    def progress(self, what):
        self.done += 1
        took = time.monotonic() - self.started
        left = took / self.done * max(self.all - self.done, 0)
        print(f"[{self.done}/{self.all}, {took / 60:.0f} min, about {left / 60:.0f} min left] {what}", file=sys.stderr, flush=True)

    def wanted(self, name):
        return self.only is None or name in self.only

    def sample(self, fleet, peer, workload):
        """One round of a workload at one proxy."""
        if workload.settle:
            result, before, after = self.settled(fleet, peer, workload)
        else:
            before = fleet.cpu(peer)
            result = workload.run(self, peer, self.seconds)
            after = fleet.cpu(peer)
        fleet.forget_logs()
        count = max(result["requests"], 1) * workload.units
        user, system = ((after[i] - before[i]) / count for i in (0, 1))
        return {**result, "user": user, "system": system, "cpu": user + system, "resident": fleet.resident(peer)}

    def settled(self, fleet, peer, workload):
        """A load of which the beginning isn't counted: what the backend was asked in between is."""
        # Not to the end, so as not to count that either.
        counted = 0.9 * self.seconds
        with ThreadPoolExecutor(1) as loads:
            loaded = loads.submit(workload.run, self, peer, workload.settle + self.seconds)
            time.sleep(workload.settle)
            before, first = fleet.cpu(peer), fleet.served()
            time.sleep(counted)
            after, last = fleet.cpu(peer), fleet.served()
            return {**loaded.result(), "requests": last - first, "rate": (last - first) / counted}, before, after

    def measure(self, fleet, workload):
        samples = {peer: [] for peer in workload.peers}
        for number in range(self.rounds):
            for peer in rotated(workload.peers, number):
                one = self.sample(fleet, peer, workload)
                samples[peer].append(one)
                self.progress(f"{workload.name}, round {number + 1} of {self.rounds}: {peer} {shown(one)}")
        return {"title": workload.title, "unit": workload.unit, "samples": samples}

    def idle(self, name, make):
        """Memory for each of many idle connections: of fresh processes, since what a load before has left is reused."""
        samples = {peer: [] for peer in PROXIES}
        routes, protocol = IDLE[name]
        # Each costs this process more than a proxy.
        count = min(self.idle_connections, 1000) if protocol else self.idle_connections
        hold = lambda peer, count: tls.idle(PORTS[peer], self.host, count, protocol) if protocol else load.idle(PORTS[peer], self.host, count)
        for number in range(self.idle_rounds):
            with make(routes) as fleet:
                for peer in rotated(PROXIES, number):
                    fleet.start(peer)
                    # What every process makes once: its first connections, buffers, threads.
                    with hold(peer, 64):
                        pass
                    before = fleet.resident(peer)
                    with hold(peer, count):
                        # A coarse clock frees what an idle connection doesn't need.
                        time.sleep(3)
                        each = (fleet.resident(peer) - before) / count
                    samples[peer].append(each)
                    self.progress(f"{name}, {count} connections: {peer} {each / 1024:.1f} KiB each")
        return {"connections": count, "samples": samples}

    def disturbed(self, fleet, workload, name, disturbance):
        """The same load at Nodegate with and without something that goes on beside it."""
        samples = {"quiet": [], name: []}
        for number in range(self.rounds):
            for which in rotated(list(samples), number):
                first = fleet.generation("nodegate")
                with disturbance() if which == name else nullcontext():
                    one = self.sample(fleet, "nodegate", workload)
                samples[which].append({**one, "tables": fleet.generation("nodegate") - first})
                self.progress(f"{workload.name}, round {number + 1} of {self.rounds}: {which} {shown(one)}")
        return {"title": workload.title, "samples": samples}


def shown(one):
    """A sample, for the progress line."""
    latency = f", p99 {one['p99']:.0f} us" if "p99" in one else ""
    return f"{one['cpu']:.1f} us of CPU{latency}" + (f", {one['failed']} FAILED" if one["failed"] else "")


def rotated(peers, number):
    """Each in its turn is the first: whatever that one meets, all do."""
    first = number % len(peers)
    return peers[first:] + peers[:first]


@contextmanager
def editing(manifests):
    """Rewrites an Ingress of another host again and again, as a whole file each time."""
    over = threading.Event()

    def edit():
        number = 0
        while not over.wait(EDIT_INTERVAL_S):
            number += 1
            fresh = manifests / ".edited"
            fresh.write_text(configs.ingress("edited.example.com", (f"/v{number}", "/"), "edited"))
            fresh.rename(manifests / "edited.yaml")

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        yield
    finally:
        over.set()
        editor.join()


def machine():
    cpus = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return {"cpu": next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")), platform.machine()), "cores": os.cpu_count(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(), "load": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%d")}


def revision():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=peers.HERE)
    return done.stdout.strip() or "?"


def prepare(run):
    files = run / "files"
    files.mkdir()
    for name, size in (("1m", MIB), ("100m", 100 * MIB)):
        (files / name).write_bytes(os.urandom(size))
    # nginx's worker has another user.
    run.chmod(0o755)


def bench(arguments, run, save):
    bench = Bench(arguments, run)
    wanted = [workload for workload in WORKLOADS if bench.wanted(workload.name)]
    extra = [name for name in EXTRA if bench.wanted(name)]
    idle = [name for name in IDLE if bench.wanted(name)]
    sizes = {"rate": len(WITH_FLOOR) + 1, "edits": 2, "workers": 2, "hosts": 2, "stuck": 2}
    bench.all = bench.rounds * (sum(len(workload.peers) for workload in wanted) + sum(sizes[name] for name in extra))
    bench.all += bench.idle_rounds * len(PROXIES) * len(idle)
    make = lambda routes: Fleet(run, bench.tools, routes)
    data = {"machine": machine(), "versions": {**peers.versions(bench.tools), "revision": revision()},
            "rustc": arguments.rustc, "settings": {"rounds": bench.rounds, "seconds": bench.seconds, "quick": bench.quick}, "workloads": {}}
    for name in idle:
        data[name] = bench.idle(name, make)
        save(data)
    for routes in dict.fromkeys(workload.routes for workload in WORKLOADS):
        mine = [workload for workload in wanted if workload.routes is routes]
        also = {name for name in extra if EXTRA[name] is routes}
        if not mine and not also:
            continue
        with make(routes) as fleet:
            for peer in WITH_BUFFERS if routes is ONE else PROXIES:
                fleet.start(peer)
            for workload in mine:
                data["workloads"][workload.name] = bench.measure(fleet, workload)
                save(data)
            if also & {"rate", "edits", "stuck"}:
                closed = TLS_64 if routes.secure else GET_64
                got = data["workloads"].get(closed.name) or bench.measure(fleet, closed)
                rate = max(int(min(report.median(samples, "rate") for samples in got["samples"].values()) / 2), 1)
            if "rate" in also:
                data["rate"] = {"rate": rate, **bench.measure(fleet, fixed_rate(rate))}
            if "edits" in also:
                edits = lambda: editing(bench.run / "nodegate-manifests")
                data["edits"] = {"rate": rate, **bench.disturbed(fleet, fixed_rate(rate), "edited", edits)}
            if "stuck" in also:
                stuck = lambda: tls.stuck(PORTS["nodegate"], bench.host, STUCK)
                data["stuck"] = {"rate": rate, "each": STUCK, **bench.disturbed(fleet, fixed_rate(rate, secure=True), "stuck", stuck)}
            if "workers" in also:
                fleet.start("nodegate-2", f"{peers.PROXY_CORE},{LOAD_CORE}")
                data["workers"] = bench.measure(fleet, WORKERS)
            if "hosts" in also:
                fleet.start("nodegate-few", routes=TEN)
                data["hosts"] = bench.measure(fleet, HOSTS)
            save(data)


def main():
    parser = argparse.ArgumentParser(prog="loadtest/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one round of one second each, in some three minutes: to see that it works, not to be quoted")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each workload (default: 7)")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of each round (default: 2)")
    parser.add_argument("--only", help="workloads to run, by name and separated by commas; also rate, edits, stuck, workers, hosts, idle, idle-tls, idle-http2")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="directory for RESULTS.md and results/")
    for name in ("nodegate", "rustc", "relay", "oha", "venv"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = {workload.name for workload in WORKLOADS} | set(EXTRA) | set(IDLE)
    if arguments.only and (unknown := set(arguments.only.split(",")) - known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    if os.cpu_count() < 2:
        sys.exit("bench: one core for the proxy and one for the load are needed")
    # This process and whatever it starts, but for the proxies.
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    # Two for each of 10,000 connections, for a proxy; it inherits this. Where that is too much to ask for, fewer connections do.
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, peers.FILES),) * 2)
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    # However it ends, the proxies end with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(f"bench: ended by signal {number}"))
    shared = pathlib.Path("/dev/shm")
    fits = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > SPACE
    run = pathlib.Path(tempfile.mkdtemp(prefix="nodegate-bench-", dir=shared if fits else None))
    results = arguments.out / "results"
    results.mkdir(parents=True, exist_ok=True)

    def save(data):
        """All there is so far: nothing that was measured is lost with what comes after it."""
        (results / "data.json").write_text(json.dumps(data, indent=1) + "\n")
        report.write(data, arguments.out)

    try:
        prepare(run)
        bench(arguments, run, save)
    finally:
        shutil.rmtree(run, ignore_errors=True)
    print(f"bench: wrote {arguments.out / 'RESULTS.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
