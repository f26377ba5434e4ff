"""Puts an instrumented Nodegate under the load of the benchmarks that are about its own work, not the kernel's; of requests as Cloudflare sends them; and of TLS
and HTTP/2."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile

import measure
from bench.__main__ import prepare
from bench.configs import ONE
from bench.peers import LOAD_CORE, PORTS, Fleet
from bench.workloads import WORKLOADS

SECONDS = 3
HTTPS = PORTS["nodegate"] + 1000
# These copy the same bytes for longer. What has other routes than one is left out, too: reading ten thousand of them would look as important as requests do.
LEFT_OUT = ("down-100m", "up-100m")


class Trainer(Fleet):
    # What a workload asks of whoever runs it.
    host = ONE.hosts[0]


class Encrypted(Trainer):
    def command(self, name, routes):
        command, environment = super().command(name, routes)
        return (*command, "--https", f"127.0.0.1:{HTTPS}"), environment


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


def encrypted(tool, *arguments):
    host = ONE.hosts[0]
    command = ["taskset", "-c", LOAD_CORE, tool, "--no-tui", "--output-format", "json", "--insecure", "-z", f"{SECONDS}s", *arguments,
               "--connect-to", f"{host}:{HTTPS}:127.0.0.1:{HTTPS}", f"https://{host}:{HTTPS}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = json.loads(done.stdout)["statusCodeDistribution"]
    print(f"profile: TLS, {' '.join(arguments)}: {codes}", file=sys.stderr, flush=True)
    if set(codes) != {"200"}:
        raise SystemExit(f"profile: over TLS came {done.stdout}")


def main():
    program, oha = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        run = pathlib.Path(directory)
        prepare(run)
        with BehindCloudflare(run, {"nodegate": program}, ONE) as trainer:
            trainer.start("nodegate")
            behind_cloudflare(80_000)
        with Encrypted(run, {"nodegate": program}, ONE) as trainer:
            trainer.start("nodegate")
            encrypted(oha, "-c", "32")
            encrypted(oha, "-c", "16", "--disable-keepalive")
            encrypted(oha, "-c", "4", "--http2", "-p", "32")
            encrypted(oha, "-c", "4", "--http2", "-p", "8", "-m", "POST", "-d", "x" * 16384)
        with Trainer(run, {"nodegate": program}, ONE) as trainer:
            trainer.start("nodegate")
            for workload in WORKLOADS:
                if workload.routes == ONE and workload.name not in LEFT_OUT:
                    result = workload.run(trainer, "nodegate", SECONDS)
                    print(f"profile: {workload.name}: {result['requests']} requests", file=sys.stderr, flush=True)
                    if result["failed"]:
                        raise SystemExit(f"profile: {result['failed']} of them failed, and what a failure costs isn't what is to be optimised")


main()
