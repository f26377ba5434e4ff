#!/usr/bin/env bash
# Installs what this machine lacks, from Debian's packages; elsewhere it says what is missing. On standard input a line for each thing that is needed:
#   COMMAND-OR-FILE PACKAGE [SERVICE]
# SERVICE is what the package starts by itself: only its program is wanted.
#   install-packages.sh WHO        WHO begins each message
set -euo pipefail
who=$1
needed=$(cat)

missing() { # the third column's, or else the packages of what isn't there
    local what package service
    while read -r what package service; do
        command -v "$what" >/dev/null || [ -e "$what" ] || echo "${!1}"
    done <<<"$needed" | sed '/^$/d' | sort -u
}

say() { printf '%s: %s\n' "$who" "$*" >&2; }
die() { say "$*"; exit 1; }

export PATH=$PATH:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d mark="# Of nodegate's scripts, while they install packages."
if grep -qxF "$mark" "$policy" 2>/dev/null; then
    say "removing $policy, which an installation that was killed left behind"
    rm -f "$policy" || die "can't remove $policy: as long as it is there, no package can start its service"
fi
packages=$(missing package | tr '\n' ' ')
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it with: $packages"
[ "$(id -u)" = 0 ] || die "run as root, or install: $packages"

# Their packages mustn't start the programs as services, neither now nor at the next boot.
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod +x "$policy"
fi
services=$(missing service)
say "installing $packages"
export DEBIAN_FRONTEND=noninteractive
# Other people's apt may be at work.
apt() { apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2; }
# shellcheck disable=SC2086 # one word for each package
apt update && apt install -y --no-install-recommends $packages || die "apt-get failed; install by hand: $packages"
for service in $services; do
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable "$service" >&2 || say "can't disable $service, which its package has enabled: it starts with the machine"
    else
        say "$service was not started; whether it is at the next boot is up to this machine's init"
    fi
done
packages=$(missing package | tr '\n' ' ')
[ -z "$packages" ] || die "still missing after the installation: $packages"
