#!/usr/bin/env python3
"""What a configuration of many Ingresses costs the program: memory, compiling, the time to ready and from an edit to live, CPU time.

    measure.py NODEGATE BINARIES [INGRESSES...]

BINARIES is the directory of etcd and kube-apiserver.
"""

import sys
import tempfile

import cluster
import files
from running import HEADINGS


def main():
    program, binaries, *counts = sys.argv[1:]
    counts = sorted(map(int, counts)) or [1_000, 10_000, 50_000]
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    for count in counts:
        for measure in (files.one_file, files.many_files):
            with tempfile.TemporaryDirectory() as directory:
                measure(program, count, directory)
    with tempfile.TemporaryDirectory() as directory:
        cluster.measure(program, binaries, counts, directory)
    print()
    with tempfile.TemporaryDirectory() as directory:
        files.busy_log(program, directory)


main()
