#!/usr/bin/env bash
# Installs what the cluster tests need of the distribution and this machine lacks. Debian's packages; elsewhere it says what is missing.
set -euo pipefail

# A command or file, and the package that it comes in.
needed='containerd containerd
ctr containerd
runc runc
/usr/lib/cni/bridge containernetworking-plugins
conntrack conntrack
iptables iptables
ip iproute2
unshare util-linux
nsenter util-linux
setpriv util-linux
mount mount
flock util-linux
getent libc-bin
python3 python3
readelf binutils
strip binutils
cc gcc
/usr/bin/redis-check-rdb redis-tools
pip3 python3-pip
pgrep procps'

missing() { # the packages of what isn't there
    local what package
    while read -r what package; do
        command -v "$what" >/dev/null || echo "$package"
    done <<<"$needed" | sort -u
}

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

export PATH=$PATH:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d mark='# Of the cluster tests, while they install packages.'
if grep -qxF "$mark" "$policy" 2>/dev/null; then
    say "removing $policy, which an installation that was killed left behind"
    rm -f "$policy" || die "can't remove $policy: as long as it is there, no package can start its service"
fi
packages=$(missing | tr '\n' ' ')
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it with: $packages"
[ "$(id -u)" = 0 ] || die "run as root, or install: $packages"

# Only the programs are wanted: their packages mustn't start them as services, neither now nor at the next boot.
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod +x "$policy"
fi
services=''
command -v containerd >/dev/null || services=containerd.service
say "installing $packages"
export DEBIAN_FRONTEND=noninteractive
# Other people's apt may be at work.
apt() { apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2; }
# shellcheck disable=SC2086 # one word for each package
apt update && apt install -y --no-install-recommends $packages || die "apt-get failed; install by hand: $packages"
if [ -n "$services" ] && command -v systemctl >/dev/null; then
    systemctl --quiet disable "$services" >&2 || say "can't disable $services, which its package has enabled: it starts with the machine"
elif [ -n "$services" ]; then
    say "$services was not started; whether it is at the next boot is up to this machine's init"
fi
packages=$(missing | tr '\n' ' ')
[ -z "$packages" ] || die "still missing after the installation: $packages"
