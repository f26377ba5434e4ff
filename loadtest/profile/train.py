"""Puts an instrumented Nodegate under the load of the benchmarks that are about its own work, not the kernel's; and of requests as Cloudflare sends them."""

import pathlib
import socket
import sys
import tempfile

import measure
from bench.__main__ import prepare
from bench.peers import ONE, PORTS, Fleet
from bench.workloads import WORKLOADS

SECONDS = 3
# These copy the same bytes for longer. What has other routes than one is left out, too: reading ten thousand of them would look as important as requests do.
LEFT_OUT = ("down-100m", "up-100m")


class Trainer(Fleet):
    # What a workload asks of whoever runs it.
    host = ONE.hosts[0]


class BehindCloudflare(Trainer):
    def command(self, name, routes):
        command, environment = super().command(name, routes)
        return (*command, "--trusted-proxies", "127.0.0.1/32"), environment


def behind_cloudflare(count):
    with socket.create_connection(("127.0.0.1", PORTS["nodegate"]), timeout=30) as connection:
        for _ in range(count):
            connection.sendall(measure.CLOUDFLARE)
            begun = connection.recv(64, socket.MSG_PEEK)
            if not begun.startswith(b"HTTP/1.1 200 ") or measure.read_message(connection) is None:
                raise SystemExit(f"profile: a request as behind Cloudflare was answered with {begun!r}")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        run = pathlib.Path(directory)
        prepare(run)
        with BehindCloudflare(run, {"nodegate": program}, ONE) as trainer:
            trainer.start("nodegate")
            behind_cloudflare(80_000)
        with Trainer(run, {"nodegate": program}, ONE) as trainer:
            trainer.start("nodegate")
            for workload in WORKLOADS:
                if workload.routes == ONE and workload.name not in LEFT_OUT:
                    result = workload.run(trainer, "nodegate", SECONDS)
                    print(f"profile: {workload.name}: {result['requests']} requests", file=sys.stderr, flush=True)
                    if result["failed"]:
                        raise SystemExit(f"profile: {result['failed']} of them failed, and what a failure costs isn't what is to be optimised")


main()
