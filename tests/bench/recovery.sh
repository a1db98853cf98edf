#!/bin/bash
# Makes a pool in the world it is started in, leases half of it, and measures how long a killed daemon's successor takes
# until it answers: recovery.sh SLOTS
#
# Prints one JSON object.
set -euo pipefail

slots=$1
config=/run/bench/netslot.toml
mkdir -p /run/bench
printf 'slots = %d\nmtu = %d\n' "$slots" 1430 >$config
"$NETSLOT" --config $config --quiet --quiet up >/dev/null
"$LEASE" recovery --netslot "$NETSLOT" --config $config --leases $((slots / 2)) /run/netslot/netslot.sock |
    jq --compact-output --argjson slots "$slots" '{what: "recovery", slots: $slots} + .'
# None of it was lost or changed by the kills.
"$NETSLOT" --config $config --quiet --json verify | jq --compact-output '{what: "verify", equal, differ: (.differ | length)}'
"$NETSLOT" --config $config --quiet destroy --force >/dev/null
