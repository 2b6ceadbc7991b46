#!/bin/sh
# Runs two published Bitrix24 clients against `b24-janitor sandbox` and checks what they deleted.
# usage: tests/clients/run.sh [PATH-OF-b24-janitor]   (default: $B24_JANITOR, then target/debug/b24-janitor)
# Needs python3 with venv, and PyPI once; CLIENTS_VENV names a virtual environment to keep between runs.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=${1:-${B24_JANITOR:-$here/../../target/debug/b24-janitor}}
work=$(mktemp -d)
venv=${CLIENTS_VENV:-$work/venv}
pid=
trap 'test -z "$pid" || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT

test -x "$venv/bin/python" || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check fast_bitrix24==1.8.14 b24pysdk==1.3.2

for client in fast_bitrix24 b24pysdk; do
    "$binary" sandbox --listen 127.0.0.1:0 --leads 1000 --seed 7 >"$work/$client.log" 2>&1 &
    pid=$!
    webhook=
    tries=0
    while test -z "$webhook"; do
        webhook=$(sed -n 's|.*webhook: \(http://[^ ]*\).*|\1|p' "$work/$client.log")
        tries=$((tries + 1))
        if test "$tries" -gt 100 || ! kill -0 "$pid" 2>/dev/null; then
            cat "$work/$client.log" >&2
            echo "the sandbox didn't say its webhook" >&2
            exit 1
        fi
        test -n "$webhook" || sleep 0.1
    done
    "$venv/bin/python" "$here/clients.py" "$client" "$webhook"
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
done
