#!/usr/bin/env bash
# Installs what the cluster tests need of the distribution and this machine lacks.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../support/install-packages.sh" cluster <<'PACKAGES'
containerd containerd containerd.service
ctr containerd containerd.service
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
pgrep procps
PACKAGES
