#!/bin/bash
# Makes a pool in the world it is started in, serves it, and measures daemon and memory: serve.sh SLOTS ROUNDS BUILD
#
# BUILD slots are made in a world beside it while leases are timed. Prints one JSON object per measurement, each with
# a key "what".
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/lib.sh"

slots=$1 rounds=$2 build=$3
mtu=1430
# Between two rounds, microseconds: what a busy host asks for, and slow enough that scrubbing keeps up.
pause_us=2000
config=/run/bench/netslot.toml
socket=/run/netslot/netslot.sock
mkdir -p /run/bench

# result WHAT: the JSON on stdin, named.
result() {
    jq --compact-output --arg what "$1" '{what: $what} + .'
}

# A line of /proc/meminfo or of a process's status, KiB.
kib() {
    awk -v key="$2:" '$1 == key { print $2 }' "$1"
}

memory() {
    sync
    sleep 1 # what the pass freed comes back by RCU
    jq --null-input --argjson available "$(kib /proc/meminfo MemAvailable)" --argjson slab "$(kib /proc/meminfo Slab)" \
        --argjson percpu "$(kib /proc/meminfo Percpu)" '{available: $available, slab: $slab, percpu: $percpu}'
}

printf 'slots = %d\nmtu = %d\n' "$slots" "$mtu" >$config
before=$(memory)
"$NETSLOT" --config $config --quiet --quiet up >/dev/null
after=$(memory)
jq --null-input --argjson before "$before" --argjson after "$after" --argjson slots "$slots" \
    '{slots: $slots, available_kib_per_slot: (($before.available - $after.available) / $slots),
      slab_kib_per_slot: (($after.slab - $before.slab) / $slots),
      percpu_kib_per_slot: (($after.percpu - $before.percpu) / $slots)}' | result kernel-memory

"$NETSLOT" --config $config --quiet serve &
daemon=$!
trap 'kill $daemon 2>/dev/null || true' EXIT
until [ -S $socket ] && "$NETSLOT" --config $config --quiet --json status >/dev/null 2>&1; do
    kill -0 $daemon # or it has ended, and said why
    sleep 0.1
done

daemon_memory() {
    jq --null-input --argjson rss "$(kib /proc/$daemon/status VmRSS)" \
        --argjson anon "$(kib /proc/$daemon/status RssAnon)" '{rss_kib: $rss, anon_kib: $anon}' | result "$1"
}
daemon_memory rss-idle

"$LEASE" round-trips --rounds "$rounds" $socket | result idle
"$LEASE" round-trips --rounds "$rounds" --pause-us $pause_us $socket | result idle-paced
"$LEASE" round-trips --rounds "$rounds" --netns $socket | result idle-netns
for clients in 1 16; do
    "$LEASE" throughput --clients $clients --leases $((slots / 2)) $socket | result throughput
done
daemon_memory rss-after

# The pass becomes the process that is waited for: what ends with it is the building, before its world is torn down.
# shellcheck disable=SC2016 # for the inner shell to expand
"$TESTS/world.sh" bash -c 'printf "slots = %d\nmtu = %d\n" "$1" "$2" >/run/build.toml
    exec "$NETSLOT" --config /run/build.toml --quiet --quiet up >/dev/null' build "$build" "$mtu" &
building=$!
sleep 0.2 # its world is made and its observing done
"$LEASE" round-trips --rounds 1000000 --pause-us $pause_us --while-runs $building $socket | result building
wait $building

kill $daemon
wait $daemon || true
trap - EXIT
"$NETSLOT" --config $config --quiet destroy >/dev/null
