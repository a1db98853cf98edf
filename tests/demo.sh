#!/bin/bash
# netslot's first five minutes: demo.sh BINARY [SLOTS]
#
# Makes a pool on a host of its own (private network and mount namespaces, see world.sh), leases from it, pings through
# it, and takes it down. Nothing on this machine is touched, and nothing is left, however it ends.
set -euo pipefail
TESTS=$(cd "${BASH_SOURCE[0]%/*}" && pwd)

# AWS Lambda's disclosure of April 2026: 4,000 slots in about three minutes.
YARDSTICK_SLOTS=4000
YARDSTICK_SECONDS=180
# Kernel memory of one slot on a machine with few CPUs, KiB, with a quarter to spare.
SLOT_KIB=520

if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' dim='' plain=''
fi

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s# %s%s\n' "$dim" "$*" "$plain"; }

# Shows a command as one would type it, past any pipe behind it, and runs it.
exec 3>&1
run() {
    local word
    {
        printf '%s$' "$dim"
        for word in "$@"; do
            case $word in
                "$NETSLOT") printf ' netslot' ;;
                *[!A-Za-z0-9_./:=-]*) printf " '%s'" "$word" ;;
                *) printf ' %s' "$word" ;;
            esac
        done
        printf '%s\n' "$plain"
    } >&3
    "$@"
}

# Seconds since a value of EPOCHREALTIME.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }'; }

outside() {
    export NETSLOT SLOTS
    [ "$(id -u)" -eq 0 ] || die "it makes network namespaces: run it as root, as in: sudo $0 $NETSLOT"
    local free_kib
    free_kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    if [ "$free_kib" -lt $((SLOTS * SLOT_KIB)) ]; then
        die "$SLOTS slots need about $((SLOTS * SLOT_KIB / 1024)) MiB of kernel memory, and $((free_kib / 1024)) MiB" \
            "are free; as many as fit: $0 $NETSLOT $((free_kib / SLOT_KIB))"
    fi
    # shellcheck source=knobs.sh
    . "$TESTS/knobs.sh"
    knobs_turn
    "$TESTS/world.sh" "$0" --inside
}

die() {
    echo "demo: $*" >&2
    exit 1
}

# In the world: its last process to end takes all of it along.
inside() {
    daemon=
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    own_etc
    make_pool
    serve_pool
    use_slots
    give_back
    take_down
}

# A copy of /etc to write to: this world's alone.
own_etc() {
    mkdir /run/etc
    cp --archive /etc/. /run/etc
    mkdir -p /run/etc/netslot
    rm -rf /run/etc/netslot/*
    mount --bind /run/etc /etc
}

clean_up() {
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null || true
    fi
    if [ -e /run/netslot/vault ]; then
        "$NETSLOT" --quiet destroy --force >/dev/null 2>&1 || true
    fi
}

make_pool() {
    step "1. A configuration. Every key has a default; this worker will run $SLOTS microVMs."
    printf 'slots = %d\n' "$SLOTS" >/etc/netslot/netslot.toml
    run cat /etc/netslot/netslot.toml

    step "2. At boot: every slot in one pass. Each is a network namespace with tap, bridge, veth pair, addresses, routes."
    began=$EPOCHREALTIME
    run "$NETSLOT" up
    up_seconds=$(since "$began")
    note "the host sees one device per slot, and no mount: $(ip -oneline link show | wc -l) devices," \
        "$(grep -c slot- /proc/self/mountinfo || true) mounts of slots"
}

serve_pool() {
    step "3. The daemon adopts the pool and leases it over a Unix socket."
    printf '%s$ netslot serve &%s\n' "$dim" "$plain"
    began=$EPOCHREALTIME
    "$NETSLOT" --quiet serve &
    daemon=$!
    until "$NETSLOT" --quiet status >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || die "the daemon has ended"
        sleep 0.02
    done
    note "ready after $(since "$began") s"
    run "$NETSLOT" status
}

use_slots() {
    step "4. A lease: what a VMM needs to know, and a generation that proves it is ours."
    run "$NETSLOT" lease --tag first-vm
    note "and three more, for a script"
    run "$NETSLOT" lease --count 3 --tag batch --no-guest --json | tee /run/leases | cut -c1-110 | sed 's/$/ …/'
    run "$NETSLOT" list --state leased

    step "5. A program inside a slot, in the guest's place, reaches the host and the network, and is reached."
    run "$NETSLOT" exec --no-guest -- ping -c 2 -i 0.2 -W 2 198.51.100.2
    run "$NETSLOT" exec --no-guest -- ping -c 2 -i 0.2 -W 2 198.51.100.1
    note "what it sees there: the tap for a VMM, the gateway that is the same in every slot, its own way out"
    run "$NETSLOT" exec -- ip -brief address
    note "and from the network, the other way: into the first slot of the batch"
    local slot_ip
    slot_ip=$(jq --raw-output --slurp '.[0].slot_ip' /run/leases)
    run ip netns exec network ping -c 2 -i 0.2 -W 2 "$slot_ip"
}

give_back() {
    step "6. Given back: each is cleaned before anybody gets it again."
    "$NETSLOT" list --state leased --json | jq --raw-output '.[] | "\(.slot) \(.generation)"' >/run/leased
    while read -r slot generation; do
        run "$NETSLOT" release "$slot" --generation "$generation"
    done </run/leased
    until [ "$("$NETSLOT" status --json | jq .free)" -eq "$SLOTS" ]; do sleep 0.05; done
    run "$NETSLOT" status
}

take_down() {
    step "7. All of it down again."
    kill "$daemon" && wait "$daemon" || true
    daemon=
    began=$EPOCHREALTIME
    run "$NETSLOT" destroy
    local down_seconds
    down_seconds=$(since "$began")

    step "$(awk -v slots="$SLOTS" -v up="$up_seconds" -v down="$down_seconds" -v theirs="$YARDSTICK_SECONDS" \
        -v of="$YARDSTICK_SLOTS" 'BEGIN {
        printf "%d slots in %.1f s (%.2f ms each), gone in %.1f s.\n", slots, up, up * 1000 / slots, down
        printf "The yardstick, AWS Lambda in April 2026: %d in about %d s, %.0f ms each. This was %.0f times as fast.",
            of, theirs, theirs * 1000 / of, theirs / of / (up / slots) }')"
}

if [ "${1-}" = --inside ]; then
    inside
else
    [ $# -ge 1 ] && [ -x "$1" ] || die "usage: $0 BINARY [SLOTS]"
    NETSLOT=$(realpath "$1")
    SLOTS=${2:-$YARDSTICK_SLOTS}
    outside
fi
