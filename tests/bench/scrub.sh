#!/bin/bash
# Makes a pool in the world it is started in, serves it, and measures what scrubbing costs: scrub.sh SLOTS LEASES
#
# Prints one JSON object per measurement: without rules, then with the slot's set of systemd/slot.nft where nft is there.
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/lib.sh"

slots=$1 leases=$2
mtu=1430
config=/run/bench/netslot.toml
socket=/run/netslot/netslot.sock
mkdir -p /run/bench

# measure WHAT: a pool by $config, served and measured.
measure() {
    "$NETSLOT" --config $config --quiet --quiet up >/dev/null
    nice -n -10 "$NETSLOT" --config $config --quiet serve & # as its unit has it
    daemon=$!
    trap 'kill $daemon 2>/dev/null || true' EXIT
    until [ -S $socket ] && "$NETSLOT" --config $config --quiet --json status >/dev/null 2>&1; do
        kill -0 $daemon # or it has ended, and said why
        sleep 0.1
    done
    "$LEASE" scrub --daemon $daemon --leases "$leases" $socket |
        jq --compact-output --arg what "$1" --argjson slots "$slots" '{what: $what, slots: $slots} + .'
    # What was leased and given back thousands of times is as it was made.
    "$NETSLOT" --config $config --quiet --json verify | jq --compact-output '{what: "verify", equal, differ: (.differ | length)}'
    kill $daemon
    wait $daemon || true
    trap - EXIT
    "$NETSLOT" --config $config --quiet destroy >/dev/null
}

printf 'slots = %d\nmtu = %d\n' "$slots" "$mtu" >$config
measure "no rules"
if command -v nft >/dev/null; then
    printf '[rules]\nslot = "%s"\n' "$(realpath "$TESTS/../systemd/slot.nft")" >>$config
    measure "30 rules"
fi
