#!/bin/bash
# One timed pass in the world it is started in: once.sh netslot|baseline SLOTS THREADS
#
# Prints the program's own JSON with "who", "threads" and "wall", the seconds from start to end seen from outside.
set -euo pipefail

who=$1 slots=$2 threads=$3
mtu=1430
mkdir -p /run/bench

# Seconds between two values of EPOCHREALTIME.
seconds() {
    awk -v from="$1" -v to="$2" 'BEGIN { printf "%.6f", to - from }'
}

# Half a MiB for a slot; with COLD=1 memory is as it is.
if [ "${COLD:-0}" = 0 ]; then
    exec {warm}< <(exec "$WARM" $((slots / 2)))
    # shellcheck disable=SC2064 # this one's number, now
    trap "kill $!" EXIT
    read -r _ <&"$warm"
fi

case $who in
    netslot)
        printf 'slots = %d\nthreads = %d\nmtu = %d\n' "$slots" "$threads" "$mtu" >/run/bench/netslot.toml
        netslot=("$NETSLOT" --config /run/bench/netslot.toml --json --quiet --quiet)
        began=$EPOCHREALTIME
        result=$("${netslot[@]}" up)
        wall=$(seconds "$began" "$EPOCHREALTIME")
        down=$("${netslot[@]}" destroy | jq .seconds)
        ;;
    baseline)
        # Its stdin ends when this script does; its line comes when all is made.
        coproc yardstick { exec "$BASELINE" "$slots" "$threads" "$mtu" /run/bench; }
        began=$EPOCHREALTIME
        read -r result <&"${yardstick[0]}"
        wall=$(seconds "$began" "$EPOCHREALTIME")
        down=null
        ;;
esac
jq --compact-output --arg who "$who" --argjson threads "$threads" --argjson wall "$wall" --argjson down "$down" \
    '. + {who: $who, threads: $threads, wall: $wall, destroy_seconds: $down}' <<<"$result"
