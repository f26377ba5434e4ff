#!/usr/bin/env bash
# Builds the load generator oha once, and prints where it is.
set -euo pipefail
OHA=1.16.0
root=${NODEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodegate}/bench/oha-$OHA
if [ ! -x "$root/bin/oha" ]; then
    echo "bench: building oha $OHA, once, some minutes" >&2
    cargo install oha --version "$OHA" --locked --quiet --root "$root" >&2
fi
echo "$root/bin/oha"
