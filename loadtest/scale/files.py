"""Manifests in files: all in one, or one for each Ingress; and a busy log beside them."""

import pathlib
import threading
import time

from objects import SERVICES, documents, ingress, service
from running import Nodegate, row


def write(path, text):
    """In one step, as an editor does."""
    path.with_suffix(".next").write_text(text)
    path.with_suffix(".next").rename(path)


def one_file(program, count, directory):
    manifest = pathlib.Path(directory) / "site.yaml"
    before, after = (documents(part) for part in (
        [*map(service, range(SERVICES)), *map(ingress, range(count // 2))], map(ingress, range(count // 2 + 1, count))))

    def edit(number):
        write(manifest, "---\n".join(filter(None, [before, documents([ingress(count // 2, number % SERVICES)]), after])))

    edit(SERVICES - 1)
    with Nodegate(program, "--manifests", manifest) as nodegate:
        row(count, f"one file, {manifest.stat().st_size / 1e6:.1f} MB", nodegate, edit)


def many_files(program, count, directory):
    manifests = pathlib.Path(directory) / "many"
    manifests.mkdir()
    (manifests / "services.yaml").write_text(documents(map(service, range(SERVICES))))

    def edit(number, which=count // 2):
        write(manifests / f"ingress-{which}.yaml", documents([ingress(which, number % SERVICES)]))

    for number in range(count):
        edit(number, number)
    edit(SERVICES - 1)
    with Nodegate(program, "--manifests", manifests) as nodegate:
        row(count, "a file each", nodegate, edit)


def busy_log(program, directory):
    """CPU share while a log beside the one manifest gets as many lines as one thread can write."""
    manifest = pathlib.Path(directory) / "beside.yaml"
    manifest.write_text(documents([service(0), ingress(0)]))
    with Nodegate(program, "--manifests", manifest) as nodegate:
        for name in ("access.log", "access.json"):
            over, written = threading.Event(), [0]

            def write_lines():
                with open(pathlib.Path(directory) / name, "wb", buffering=0) as log:
                    while not over.is_set():
                        log.write(b"x\n")
                        written[0] += 1
                        if written[0] % 15 == 0:
                            time.sleep(0.001)

            writer = threading.Thread(target=write_lines)
            begun, rebuilds = nodegate.cpu(), nodegate.metrics()["nodegate_rebuilds_total"]
            writer.start()
            time.sleep(5)
            over.set()
            writer.join()
            share, rebuilt = (nodegate.cpu() - begun) / 5, nodegate.metrics()["nodegate_rebuilds_total"] - rebuilds
            print(f"beside {name} with {written[0] / 5:.0f} lines a second: {share:.1%} of a core, {rebuilt:.0f} rebuilds", flush=True)
