#!/usr/bin/env bash
# Kills the cluster tests in the middle, as hard as it goes, and checks that nothing of them runs on, that the machine's settings are as they were, and that
# the next run removes the rest.
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

# What the kubelet would set for the whole machine: see `TUNABLES` in node.rs.
settings() { tail -n +1 /proc/sys/vm/{overcommit_memory,panic_on_oom} /proc/sys/kernel/{panic,panic_on_oops,keys/root_maxkeys,keys/root_maxbytes}; }
processes() { grep -lsz "^NODEGATE_E2E_OUTER=$outer\$" /proc/[0-9]*/environ || true; }
groups() { find /sys/fs/cgroup -maxdepth 2 -type d -name "nodegate-e2e-$outer-*"; }
none() { [ -z "$("$@")" ]; }
runs() { kill -0 "$outer" 2>/dev/null; }

built=$(CARGO_TERM_COLOR=never cargo test --test cluster --no-run 2>&1) || die "$built"
program=$(sed -n 's/^ *Executable .* (\(.*\))$/\1/p' <<<"$built")
before=$(settings)

log=$(mktemp)
"$program" --nodes 1 --keep nodes >"$log" 2>&1 &
outer=$!
# Asked to terminate, it removes everything, whatever the checks below find.
trap 'runs && kill "$outer" && wait "$outer" || true; rm -f "$log"' EXIT
begins_or_over() { ! none processes || ! runs; }
up_or_over() { grep -q 'until Ctrl-C' "$log" || ! runs; }
# Kubernetes and the images are built first, if they aren't there yet.
within 3600 begins_or_over && within 600 up_or_over && runs || die "no cluster came up: $(cat "$log")"

[ "$(processes | wc -l)" -gt 5 ] && ! none groups || die "this check doesn't see what runs"
kill -9 "$outer"
wait "$outer" || true
within 20 none processes || die "these outlive it: $(processes)"
[ "$(settings)" = "$before" ] || die "the machine has other settings now: $(diff <(echo "$before") <(settings))"
none groups && die "control groups are removed by nobody at this point: this check doesn't see them"
"$program" --nodes 1 nodes
none groups || die "the next run leaves these: $(groups)"
echo 'ok      a run that was killed leaves nothing behind'

# CI reads the last line: the scenarios of the whole run before this, if there was one, and this.
passed=${CARGO_TARGET_DIR:-target}/cluster-logs/passed
echo "$(($(cat "$passed" 2>/dev/null || echo 0) + 1)) passed, 0 failed"
rm -f "$passed"
