#!/usr/bin/env bash
# Builds the images of the cluster tests into target/cluster-images, without a container engine, and prints that directory. Those from elsewhere are
# fetched once. Nodegate's own is of the profile $NODEGATE_E2E_PROFILE: `dev`, or `image` for what ships, which takes minutes. Progress goes to stderr.
set -euo pipefail
shopt -s inherit_errexit

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/cluster-images
profile=${NODEGATE_E2E_PROFILE:-dev}
mkdir -p "$out"

# pack NAME BINARY: an image of one static binary.
pack() { "$root/manifests/image/pack" "$out/$1.tar" "$2=/$1" --name "docker.io/local/$1:1" --entrypoint "/$1" >&2; }

go=$("$root/tests/kube/build.sh" coredns pause)
for name in coredns pause; do
    [ "$out/$name.tar" -nt "$go/$name" ] || pack "$name" "$go/$name"
done
peers=$("$root/tests/kube/build.sh" grpc-server)
[ "$out/grpc-server.tar" -nt "$peers/grpc-server" ] || pack grpc-server "$peers/grpc-server"
# Whether an image is as it would be made now. Cargo would know better, but these two builds differ in a wrapper around the compiler, and each makes it
# compile this crate again. A stamp tells how an image was made, and its time when that began: what is edited during a build is newer.
how() { # how PROFILE: checkout, profile and compiler; several checkouts may share a target directory
    echo "$root $1 $(rustc -V)"
}
stale() { # stale NAME PROFILE FILE...: made another way, or older than one of the files
    local stamp=$out/$1.stamp
    [ -e "$out/$1.tar" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(how "$2")" ] || return 0
    shift 2
    [ -n "$(cd "$root" && find Cargo.toml Cargo.lock manifests/image "$@" -newer "$stamp" -print -quit)" ]
}
begin() { how "$2" >"$out/$1.began"; } # begin NAME PROFILE
end() { mv "$out/$1.began" "$out/$1.stamp"; } # end NAME

if stale echo dev examples/echo; then
    begin echo dev
    "$root/manifests/image/compile" --profile dev --example echo "$out"
    pack echo "$out/echo"
    end echo
fi
if stale nodegate "$profile" src; then
    begin nodegate "$profile"
    "$root/manifests/image/build" --profile "$profile" --name docker.io/local/nodegate:1 "$out" >&2
    end nodegate
fi
uncapped=nodegate-uncapped
if [ ! "$out/$uncapped.tar" -nt "$out/nodegate.tar" ]; then
    "$root/manifests/image/pack" "$out/$uncapped.tar" "$out/nodegate=/nodegate" --name "docker.io/local/$uncapped:1" --entrypoint /nodegate --cmd serve >&2
fi
"$root/tests/cluster/images/programs.sh" "$out" redis traefik
echo "$out"
