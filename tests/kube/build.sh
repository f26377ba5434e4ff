#!/usr/bin/env bash
# Builds the kube-apiserver and etcd that the tests run against, once per version, and prints the directory that holds them.
# The versions are those of go.mod beside this file. Progress goes to stderr, so that stdout is the path alone.
set -euo pipefail

say() { printf 'kube: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print substr($2, 2); exit } $2 == "k8s.io/kubernetes" { print substr($3, 2); exit }' go.mod)
[ -n "$version" ] || die "go.mod names no version of k8s.io/kubernetes"

cache=${NODEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodegate}/kube
bin=$cache/$version

complete() { [ -x "$bin/kube-apiserver" ] && [ -x "$bin/etcd" ]; }

if complete; then
    echo "$bin"
    exit 0
fi

command -v go >/dev/null || die "building kube-apiserver needs Go 1.24 or newer on PATH: install it (package golang-go, or the archive from the Go project)"
command -v flock >/dev/null || die "flock is missing: install util-linux"

# Several test runs may start at once: one builds, the others wait here and then find its result.
mkdir -p "$cache"
exec 9>"$cache/.lock"
if ! flock -n 9; then
    say "waiting for another build of kube-apiserver $version"
    flock 9
fi
if complete; then
    echo "$bin"
    exit 0
fi

rm -rf "$cache"/.build.* # of builds that were killed: we hold the lock
work=$(mktemp -d "$cache/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A vendored or module-rewriting GOFLAGS would change what go.sum pins; cgo would tie the binaries to this machine's libc.
export GOFLAGS=-mod=readonly CGO_ENABLED=0 GOWORK=off

build() { # name, package, linker flags
    local began=$SECONDS
    say "building $1 (several minutes the first time)"
    # 9>&-: a build daemon that outlives the script must not hold the lock.
    nice go build -trimpath -buildvcs=false -ldflags "-s -w $3" -o "$work/$1" "$2" 9>&-
    say "built $1 in $((SECONDS - began)) s"
}

say "kube-apiserver $version and etcd are built once, into $bin"
build etcd go.etcd.io/etcd/server/v3 ''
# Without this the API server calls itself v0.0.0, and clients that look at the version are misled.
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=${version%%.*} -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"

rm -rf "$bin" # an earlier, incomplete directory
chmod 755 "$work"
mv "$work" "$bin"
trap - EXIT
say "done"
echo "$bin"
