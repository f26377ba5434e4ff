#!/usr/bin/env bash
# Builds the named programs that tests run against, once per version, and prints the directory that holds them:
#
#     build.sh kube-apiserver etcd
#     build.sh helm
#     build.sh h2spec grpc-client grpc-server
#
# They are parts of Kubernetes and etcd, in the versions of go.mod beside this file; Helm; programs of ../cluster/images; or those that ../protocols talks to: each from a module of its own.
# Progress goes to stderr, so that stdout is the path alone.
set -euo pipefail

say() { printf 'kube: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

package() { # where a part's main package is
    case $1 in
        etcd) echo go.etcd.io/etcd/server/v3 ;;
        helm) echo helm.sh/helm/v3/cmd/helm ;;
        kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubectl | kubelet) echo "k8s.io/kubernetes/cmd/$1" ;;
        coredns | pause) echo "./$1" ;;
        h2spec) echo github.com/summerwind/h2spec/cmd/h2spec ;;
        grpc-client | grpc-server) echo "google.golang.org/grpc/interop/${1#grpc-}" ;;
        *) return 1 ;;
    esac
}

[ $# -gt 0 ] || die "usage: build.sh PART..., such as kube-apiserver or etcd"
for part; do package "$part" >/dev/null || die "'$part' is no part that can be built here"; done

# Without these every part of Kubernetes calls itself v0.0.0, and whoever looks at the version is misled.
flags="-s -w"
case $(package "$1") in
    ./*)
        what=test-images
        cd "$here/../cluster/images"
        # These sources are our own: another text is another version.
        version=$(cat go.mod ./*/main.go | sha256sum | cut -c 1-12)
        ;;
    github.com/summerwind/* | google.golang.org/*)
        what=peers
        cd "$here/../protocols/peers"
        version=$(sha256sum go.mod | cut -c 1-12)
        ;;
    helm.sh/*)
        what=helm
        cd "$here/helm"
        version=$(awk '$1 == "helm.sh/helm/v3" { print substr($2, 2); exit } $2 == "helm.sh/helm/v3" { print substr($3, 2); exit }' go.mod)
        flags+=" -X helm.sh/helm/v3/internal/version.version=v$version"
        ;;
    *)
        what=kube
        cd "$here"
        version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print substr($2, 2); exit } $2 == "k8s.io/kubernetes" { print substr($3, 2); exit }' go.mod)
        [ -n "$version" ] || die "go.mod names no version of k8s.io/kubernetes"
        stamp=k8s.io/component-base/version
        flags+=" -X $stamp.gitVersion=v$version -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$version")"
        ;;
esac
cache=${NODEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodegate}/$what
bin=$cache/$version

missing() { # the parts that aren't there yet
    local part
    for part in "$@"; do [ -x "$bin/$part" ] || echo "$part"; done
}

if [ -z "$(missing "$@")" ]; then
    echo "$bin"
    exit 0
fi

command -v go >/dev/null || die "building $part needs Go 1.24 or newer on PATH: install it (package golang-go, or the archive from the Go project)"
command -v flock >/dev/null || die "flock is missing: install util-linux"

# Several test runs may start at once: one builds, the others wait here and then find its result.
mkdir -p "$bin"
exec 9>"$cache/.lock"
if ! flock -n 9; then
    say "waiting for another build of $what $version"
    flock 9
fi

rm -rf "$cache"/.build.* # of builds that were killed: we hold the lock
work=$(mktemp -d "$cache/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A vendored or module-rewriting GOFLAGS would change what go.sum pins; cgo would tie the binaries to this machine's libc.
export GOFLAGS=-mod=readonly CGO_ENABLED=0 GOWORK=off

for part in $(missing "$@"); do
    began=$SECONDS
    say "building $part $version, once, into $bin (minutes the first time)"
    # 9>&-: a build daemon that outlives the script must not hold the lock.
    nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "$work/$part" "$(package "$part")" 9>&-
    mv "$work/$part" "$bin/$part" # whole, or not at all
    say "built $part in $((SECONDS - began)) s"
done
echo "$bin"
