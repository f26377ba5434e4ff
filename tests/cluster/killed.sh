#!/usr/bin/env bash
# Kills the cluster tests in the middle, as hard as it goes, and checks that nothing of them runs on, and that the next run removes the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() { printf 'killed.sh: %s\n' "$*" >&2; exit 1; }

# within SECONDS COMMAND...: whether it succeeds in that time.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --quiet --test cluster -- --nodes 1 --keep nodes >"$log" 2>&1 &
run=$!
up_or_over() { grep -q 'until Ctrl-C' "$log" || ! kill -0 "$run" 2>/dev/null; }
within 300 up_or_over && kill -0 "$run" || die "no cluster came up: $(cat "$log")"
outer=$(sed -n 's/.*pgrep --parent \([0-9]*\)).*/\1/p' "$log" | head -1)

processes() { grep -lsz "^NODEGATE_E2E_OUTER=$outer\$" /proc/[0-9]*/environ || true; }
groups() { find /sys/fs/cgroup -maxdepth 2 -type d -name "nodegate-e2e-$outer-*"; }
none() { [ -z "$("$@")" ]; }

[ "$(processes | wc -l)" -gt 5 ] && ! none groups || die "this check doesn't see what runs"
kill -9 "$outer"
wait "$run" || true
within 20 none processes || die "these outlive it: $(processes)"
none groups && die "control groups are removed by nobody at this point: this check doesn't see them"
cargo test --quiet --test cluster -- --nodes 1 nodes
none groups || die "the next run leaves these: $(groups)"
echo 'ok      a run that was killed leaves nothing behind'
