#!/bin/bash
# The packet path of a real pool, in the world it is started in: packets.sh SLOTS ROUNDS
#
# Serves the pool and measures the first slot beside the last, and binding. Prints one JSON object per measurement, each with
# a key "what".
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/lib.sh"

slots=$1 rounds=$2
config=/run/bench/netslot.toml
socket=/run/netslot/netslot.sock
mkdir -p /run/bench
printf 'slots = %d\nmtu = 1430\n' "$slots" >$config

netslot() {
    "$NETSLOT" --config $config --quiet --quiet "$@"
}

netslot up >/dev/null
"$NETSLOT" --config $config --quiet --quiet serve & # no function: its process is the one to be ended
daemon=$!
trap 'kill $daemon 2>/dev/null || true' EXIT
until netslot status >/dev/null 2>&1; do
    kill -0 $daemon # or it has ended, and said why
    sleep 0.1
done
"$PACKETS" served --rounds "$rounds" $socket
kill $daemon
wait $daemon || true
trap - EXIT
netslot destroy --force >/dev/null
