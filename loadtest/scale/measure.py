#!/usr/bin/env python3
"""What a configuration of many Ingresses costs the program: memory, compiling, the time to ready and from an edit to live, and the CPU time beside
a busy log. Everything is read from the program's own metrics and from /proc.

    measure.py NODEGATE [INGRESSES]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from bench import process

nodegate, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
ADMIN = "127.0.0.1:9197"
EDITS = 9


def service(number):
    return f"""apiVersion: v1
kind: Service
metadata: {{name: service-{number}, namespace: shop}}
spec: {{clusterIP: 10.43.1.{number}, ports: [{{port: 80, name: http}}]}}
"""


def ingress(number, service):
    paths = "".join(
        f"          - {{path: {path}, pathType: {kind}, backend: {{service: {{name: service-{service}, port: {{number: 80}}}}}}}}\n"
        for path, kind in [("/", "Prefix"), ("/api", "Prefix"), ("/api/v2", "Prefix"), ("/health", "Exact")]
    )
    return f"""apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: ingress-{number}, namespace: shop}}
spec:
  ingressClassName: nodegate
  rules:
    - host: host-{number}.example.com
      http:
        paths:
{paths}"""


def status(pid, field):
    line = next(line for line in open(f"/proc/{pid}/status") if line.startswith(field))
    return int(line.split()[1]) / 1024


class Running:
    def __init__(self, path):
        began = time.monotonic()
        arguments = ["--http", "127.0.0.1:8197", "--admin", ADMIN, "--workers", "1", "--access-log", "off"]
        self.process = subprocess.Popen([nodegate, "serve", "--manifests", path, *arguments], stderr=subprocess.DEVNULL)
        while not self.ready():
            assert self.process.poll() is None, "nodegate ended"
            time.sleep(0.002)
        self.to_ready = time.monotonic() - began

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def live(generation):
    """The time from now until the table is a newer one, and the metrics then."""
    began = time.monotonic()
    while True:
        found = process.metrics(ADMIN)
        if found["nodegate_snapshot_generation"] > generation:
            return time.monotonic() - began, found
        assert time.monotonic() < began + 60, "the edit didn't become live"
        time.sleep(0.002)


def measure(name, path, edit):
    with Running(path) as running:
        time.sleep(2)
        pid = running.process.pid
        found = process.metrics(ADMIN)
        resident, peak = status(pid, "VmRSS"), status(pid, "VmHWM")
        compiled = [found["nodegate_compile_seconds"]]
        took = []
        for number in range(EDITS):
            edit(number)
            elapsed, found = live(found["nodegate_snapshot_generation"])
            took.append(elapsed)
            compiled.append(found["nodegate_compile_seconds"])
            # Unrelated to the next: a person's edits are further apart than this.
            time.sleep(1)
        begun = sum(process.cpu(pid))
        time.sleep(10)
        idle = (sum(process.cpu(pid)) - begun) / 10
        after, most = status(pid, "VmRSS"), status(pid, "VmHWM")
    print(
        f"| {name} | {running.to_ready * 1e3:.0f} ms | {compiled[0] * 1e3:.0f} ms | {statistics.median(compiled[1:]) * 1e3:.0f} ms "
        f"| {statistics.median(took) * 1e3:.0f} ms, {max(took) * 1e3:.0f} ms | {resident:.0f} MB, {peak:.0f} MB | {after:.0f} MB, {most:.0f} MB | {idle:.2%} |",
        flush=True,
    )


def busy_log(directory):
    """CPU share while a log beside the one manifest gets as many lines as one thread can write."""
    manifest = f"{directory}/site.yaml"
    open(manifest, "w").write(service(0) + "---\n" + ingress(0, 0))
    with Running(manifest) as running:
        for name in ("access.log", "access.json"):
            over, written = threading.Event(), [0]

            def write():
                with open(f"{directory}/{name}", "wb", buffering=0) as log:
                    while not over.is_set():
                        log.write(b"x\n")
                        written[0] += 1
                        if written[0] % 15 == 0:
                            time.sleep(0.001)

            writer = threading.Thread(target=write)
            begun, rebuilds = sum(process.cpu(running.process.pid)), process.metrics(ADMIN)["nodegate_rebuilds_total"]
            writer.start()
            time.sleep(5)
            over.set()
            writer.join()
            share = (sum(process.cpu(running.process.pid)) - begun) / 5
            rebuilt = process.metrics(ADMIN)["nodegate_rebuilds_total"] - rebuilds
            print(f"beside {name} with {written[0] / 5:.0f} lines a second: {share:.1%} of a core, {rebuilt:.0f} rebuilds", flush=True)


def main():
    print(f"{count} Ingresses, each with one host and four paths, to one of 100 Services\n")
    print("| manifests | to ready | first compile | compile after an edit | edit to live: median, slowest of 9 | memory: at ready, peak | after the edits, peak | idle CPU |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        services = "---\n".join(service(number) for number in range(100))
        whole = [ingress(number, number % 100) for number in range(count)]

        one = f"{directory}/one.yaml"

        def edit_one(edit):
            changed = whole.copy()
            changed[count // 2] = ingress(count // 2, edit)
            open(f"{directory}/next", "w").write("---\n".join([services, *changed]))
            os.rename(f"{directory}/next", one)

        edit_one(count // 2 % 100 + 1)
        measure("one file", one, edit_one)

        many = f"{directory}/many"
        os.mkdir(many)
        open(f"{many}/services.yaml", "w").write(services)
        for number, text in enumerate(whole):
            open(f"{many}/ingress-{number}.yaml", "w").write(text)

        def edit_many(edit):
            open(f"{many}/ingress-{count // 2}.yaml", "w").write(ingress(count // 2, edit + 1))

        measure(f"{count} files", many, edit_many)
        os.mkdir(f"{directory}/log")
        print()
        busy_log(f"{directory}/log")


main()
