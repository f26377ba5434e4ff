#!/usr/bin/env bash
# Builds the images of the cluster tests into target/cluster-images, without a container engine, and prints that directory.
# Progress goes to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/cluster-images
mkdir -p "$out"

# pack IMAGE BINARY: an image of one static binary, unless the archive is newer already.
pack() {
    [ "$out/$1.tar" -nt "$2" ] || "$root/manifests/image/pack" "$out/$1.tar" "$2=/$1" --name "docker.io/local/$1:1" --entrypoint "/$1" >&2
}

go=$("$root/tests/kube/build.sh" coredns pause)
pack coredns "$go/coredns"
pack pause "$go/pause"

target=$(rustc -vV | sed -n 's/^host: //p')
# Named with --target, so that the flags aren't build scripts' too.
(cd "$root" && RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet ${CI:+--locked} --example echo --target "$target" >&2)
built=${CARGO_TARGET_DIR:-$root/target}/$target/debug/examples/echo
if [ ! "$out/echo.tar" -nt "$built" ]; then
    # Two thirds of it are for debuggers, and every node stores it.
    strip -o "$out/echo" "$built"
    touch "$out/echo"
fi
pack echo "$out/echo"
echo "$out"
