#!/bin/bash
# Rules per slot, in the world it is started in: rules.sh SLOTS
#
# What a slot's rules cost by replay and by nft, how many rules the host has for how many slots, and how long a
# connection takes beside the old way: every slot's rules in the host's own namespace. Prints one JSON object per
# measurement, each with a key "what".
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/lib.sh"

slots=$1
by_nft=$((slots < 200 ? slots : 200)) # slots that nft is timed in: enough for a median
rounds=2000                           # connections of a measurement
rules_of_a_slot=30
port=4000
root=${BENCH%/tests/bench}
config=/run/bench/netslot.toml
mkdir -p /run/bench

configure() {
    printf 'slots = %d\nmtu = 1430\n' "$1" >$config
    if [ "${2-}" = with ]; then
        printf "[rules]\nslot = '%s'\nroot = '%s'\n" "$root/systemd/slot.nft" "$root/systemd/root.nft" >>$config
    fi
}

netslot() {
    "$NETSLOT" --config $config --json --quiet --quiet "$@"
}

# Runs a command in a slot.
within() {
    local slot=$1
    shift
    "$ENTER" /run/netslot/vault "/$(printf 'slot-%04d' "$slot")" "$@"
}

# Microseconds of a command per slot, sorted.
timed() {
    local n began
    for ((n = 0; n < by_nft; n++)); do
        began=$EPOCHREALTIME
        within "$n" "$@"
        echo $((${EPOCHREALTIME/./} - ${began/./}))
    done | sort -n
}

median() {
    awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

host_rules() {
    nft -a list ruleset | grep -cE '[^{] # handle [0-9]+$' || true
}

# The rules that both ways are held against each other with: none of them matches.
thirty() {
    awk -v rules=$rules_of_a_slot 'BEGIN {
        for (r = 0; r < rules; r++) printf "ip daddr 203.0.113.%d tcp dport %d drop\n", r, 10000 + r
    }'
}

# connect WHAT: through the first slot and the last.
connect() {
    local slot
    for slot in 0 $((slots - 1)); do
        within "$slot" "$CONNECT" to 198.51.100.1 $port $rounds |
            jq --compact-output --arg what "$1" --argjson slot "$slot" --argjson rules "$(host_rules)" \
                '{what: "connect", how: $what, slot: $slot, host_rules: $rules} + .'
    done
}

# The new way: in each slot's own namespace, where it sends and receives.
in_slots() {
    printf 'table ip thirty {\nchain rules {\n%s\n}\n' "$(thirty)"
    printf 'chain %s { type filter hook %s priority 0; policy accept; jump rules; }\n' output output input input
    printf '}\n'
}

# The old way: in the host's forward chain one jump per slot and direction, and behind it the slot's rules. A packet is
# held against all jumps up to its slot's, and against the slot's rules.
in_host() {
    awk -v slots="$slots" -v rules="$(thirty)" 'BEGIN {
        print "table ip old {"
        for (s = 0; s < slots; s++) printf "chain s%d {\n%s\n}\n", s, rules
        print "chain forward { type filter hook forward priority 0; policy accept;"
        for (s = 0; s < slots; s++)
            printf "iifname \"slot%d\" jump s%d\noifname \"slot%d\" jump s%d\n", s, s, s, s
        print "}\n}"
    }'
}

# Without rules first: what making a slot costs then.
configure "$slots"
plain=$(netslot up)
netslot destroy >/dev/null
wait_gone "$IDLE_NAMESPACES"

configure "$slots" with
with=$(netslot up)
applied=$(netslot rules apply)
enter_us=$(timed true | median)
nft_us=$(timed nft -f "$root/systemd/slot.nft" | median)
jq --null-input --compact-output --argjson plain "$plain" --argjson with "$with" --argjson applied "$applied" \
    --argjson enter "$enter_us" --argjson nft "$nft_us" '{what: "slot", slots: $with.slots,
        objects: $applied.objects, make_us_without: $plain.slot_us.p50, make_us_with: $with.slot_us.p50,
        make_seconds_without: ([$plain.phases[] | select(.name == "make").seconds] | add),
        make_seconds_with: ([$with.phases[] | select(.name == "make").seconds] | add),
        replace_us: $applied.slot_us_p50, nft_us: ($nft - $enter)}'

ip netns exec network "$CONNECT" listen $port &
trap 'kill %1' EXIT
sleep 0.5
# Nothing passes a slot that is not leased.
"$NETSLOT" --config $config --quiet --quiet serve &
daemon=$!
until netslot status >/dev/null 2>&1; do sleep 0.05; done
netslot lease --count "$slots" --no-guest >/dev/null
kill $daemon
wait $daemon || true
in_slots >/run/bench/thirty.nft
printf "slots = %d\nmtu = 1430\n[rules]\nslot = '/run/bench/thirty.nft'\n" "$slots" >$config
netslot rules apply >/dev/null
connect "in the slots"
configure "$slots"
netslot rules apply >/dev/null
connect "no rules at all"
in_host | nft -f -
connect "in the host"
nft delete table ip old
netslot destroy --force >/dev/null

for count in 1 $(((slots + 9) / 10)) "$slots"; do
    wait_gone "$IDLE_NAMESPACES"
    configure "$count" with
    netslot up >/dev/null
    jq --null-input --compact-output --argjson slots "$count" --argjson rules "$(host_rules)" \
        '{what: "host", slots: $slots, rules: $rules}'
    netslot destroy >/dev/null
done
