"""A Nodegate under measurement, and what an edit costs it. Everything is read from the program's own metrics and from /proc."""

import os
import pathlib
import statistics
import subprocess
import time

from bench import process

HTTP, ADMIN = "127.0.0.1:8197", "127.0.0.1:9197"
# Enough for a 99th percentile.
TIMED_EDITS = 100
COSTED_EDITS = 20
# A person's edits are further apart than this; nothing is left to do after it.
PAUSE = 0.3
DEADLINE = 120
HEADINGS = ["Ingresses", "from", "ready", "first compile", "compile after an edit", "edit to live: median, p99", "CPU of an edit", "resident when ready, peak", "after the edits, peak"]


class Nodegate:
    def __init__(self, program, *arguments, environment=None):
        command = [program, "serve", "--http", HTTP, "--admin", ADMIN, "--workers", "1", "--access-log", "off", *arguments]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > began + DEADLINE:
                self.__exit__()
                raise SystemExit(f"scale: not ready after {time.monotonic() - began:.0f} s: {' '.join(map(str, command))}")
            time.sleep(0.002)
        self.to_ready = time.monotonic() - began

    def is_ready(self):
        try:
            return process.DIRECT.open(f"http://{ADMIN}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def metrics(self):
        return process.metrics(ADMIN)

    def cpu(self):
        """Seconds so far."""
        return sum(process.cpu(self.process.pid))

    def memory(self):
        """Resident now, and at the most, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))

    def timed(self, edit):
        """How long it takes until the table is a newer one, from before the edit; and how long it took to compile."""
        generation = self.metrics()["nodegate_snapshot_generation"]
        began = time.monotonic()
        edit()
        while (found := self.metrics())["nodegate_snapshot_generation"] == generation:
            assert time.monotonic() < began + DEADLINE, "the edit didn't become live"
            time.sleep(0.004)
        return time.monotonic() - began, found["nodegate_compile_seconds"]


def row(count, source, nodegate, edit):
    """One line of the table: edits are numbered from 0."""
    time.sleep(2)
    compiled, ready = nodegate.metrics()["nodegate_compile_seconds"], nodegate.memory()
    timed = []
    for number in range(TIMED_EDITS):
        timed.append(nodegate.timed(lambda: edit(number)))
        time.sleep(PAUSE)
    # Without anybody who asks in between, which costs, too.
    begun = nodegate.cpu()
    time.sleep(COSTED_EDITS * PAUSE)
    idle = nodegate.cpu() - begun
    begun = nodegate.cpu()
    for number in range(COSTED_EDITS):
        edit(TIMED_EDITS + number)
        time.sleep(PAUSE)
    each = (nodegate.cpu() - begun - idle) / COSTED_EDITS
    live, compiles = zip(*timed)
    after = nodegate.memory()
    cells = [
        f"{count:,}", source, f"{nodegate.to_ready:.2f} s", milliseconds(compiled), milliseconds(statistics.median(compiles)),
        f"{milliseconds(statistics.median(live))}, {milliseconds(statistics.quantiles(live, n=100)[98])}", milliseconds(each),
        "{:.0f}, {:.0f} MiB".format(*ready), "{:.0f}, {:.0f} MiB".format(*after),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def milliseconds(seconds):
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"
