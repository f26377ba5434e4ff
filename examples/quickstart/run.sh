#!/usr/bin/env bash
# Starts two sample backends and Nodegate on loopback, says what to try, and stops all of it on Ctrl-C. `make run` calls it once both
# programs are built. Arguments: the directory that holds them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:?usage: run.sh DIRECTORY_OF_THE_PROGRAMS}
port=${NODEGATE_PORT:-8080}
admin_port=${NODEGATE_ADMIN_PORT:-9080}
children=()

# Stops what was started here and nothing else, by process id, the newest last: Nodegate drains while its backends still answer.
stop() {
    trap - EXIT
    trap '' INT TERM
    for child in "${children[@]}"; do
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'exit 0' INT TERM

# Job control gives each program a process group of its own, so that Ctrl-C reaches this script alone, which then stops them in order.
set -m
"$programs/nodegate" serve --manifests "$here" --http "127.0.0.1:$port" --admin "127.0.0.1:$admin_port" &
children+=("$!")
"$programs/examples/echo" --listen 127.43.0.11:9000 --name hello --listen 127.43.0.12:9000 --name shop &
children+=("$!")

# Ready is when the admin listener says so; a program that ends before that has said why.
ready() {
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$admin_port" || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r _ status _ <&3
    exec 3>&-
    [ "$status" = 200 ]
}
until ready 2>/dev/null; do
    for child in "${children[@]}"; do
        kill -0 "$child" 2>/dev/null || exit 1
    done
    sleep 0.05
done

cat <<EOF

  Nodegate serves $here on http://127.0.0.1:$port. Try:

    curl http://hello.localhost:$port/
    curl http://shop.localhost:$port/cart
    curl -H 'Host: anything.shop.localhost' http://127.0.0.1:$port/
    curl http://127.0.0.1:$admin_port/routes

  Edit examples/quickstart/ingresses.yaml and see it change. Ctrl-C stops everything.

EOF

# Until a signal, or until one of the two ends by itself.
wait -n
