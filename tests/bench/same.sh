#!/bin/bash
# Checks, in the world it is started in, that the yardstick makes what netslot makes: devices, addresses, routes,
# neighbours, sysctls, qdiscs and filters of a few slots and of the host are dumped and compared. Prints the differences; none is success.
set -euo pipefail

slots=60 # two device groups
mtu=1430
sampled=(0 1 49 50 59)

# All that a pass makes. Left out: the world's own uplink; what the kernel counts, times or draws by itself.
dump() {
    ip -json -details link show | jq --sort-keys 'map(select(.ifname != "uplink0")
        | del(.link_netnsid, .link_index)
        | del(.. | objects | select(has("gc_timer")) | .gc_timer, .hello_timer, .tcn_timer, .topology_change_timer))'
    ip -json address show | jq 'map(select(.ifname != "uplink0") | {ifname, addr_info})'
    {
        ip route show table all
        ip -6 route show table all
    } | grep -v uplink0
    ip neighbour show nud permanent | sort
    # Which program it is differs: one that does nothing is as good a yardstick.
    tc qdisc show | sed -n '/uplink0/d; /clsact/p' | sort
    for hook in 'block 1314062337' 'block 1314062338' 'dev tap0 ingress'; do
        # shellcheck disable=SC2086 # words
        { tc filter show $hook 2>/dev/null || true; } | sed -E 's#( id| tag| name) ?[^ ]*##g; s# jited##; s# $##'
    done
    sysctl --all --pattern '^net\.ipv[46]\.(ip_forward|conf\.)' | grep -v uplink0
}
export -f dump

# dump_all WHO MOUNT_NAMESPACE DIRECTORY: the host's dump, and one of each sampled slot.
dump_all() {
    local who=$1 vault=$2 directory=$3 slot
    mkdir -p "/run/dump/$who"
    dump >"/run/dump/$who/host"
    for slot in "${sampled[@]}"; do
        "$ENTER" "$vault" "$directory/$(printf 'slot-%04d' "$slot")" bash -c dump >"/run/dump/$who/slot$slot"
    done
}

# Waits until every host end has its carrier, and every bridge and tap has noticed that it has none: linkwatch deals with
# 100 such events per second (MAX_DO_DEV_PER_LOOP, net/core/link_watch.c).
settled() {
    until [ "$(ip -oneline link show | grep -c 'slot.* state UP')" -eq $slots ]; do sleep 0.1; done
    sleep $((2 * slots / 100 + 3))
}

printf 'slots = %d\nmtu = %d\n' "$slots" "$mtu" >/run/same.toml
"$NETSLOT" --config /run/same.toml --quiet --quiet up >/dev/null
settled
dump_all netslot /run/netslot/vault ''
"$NETSLOT" --config /run/same.toml --quiet destroy >/dev/null

mkdir /run/bench
coproc yardstick { exec "$BASELINE" "$slots" 2 "$mtu" /run/bench; }
# shellcheck disable=SC2154 # set by coproc
read -r _ <&"${yardstick[0]}"
settled
dump_all baseline "/proc/$yardstick_PID/ns/mnt" /run/bench
diff --recursive --unified=0 /run/dump/netslot /run/dump/baseline
lines=$(cat /run/dump/netslot/* | wc -l)
echo "netslot and the yardstick made the same: $lines lines of dumps, of the host and ${#sampled[@]} slots of $slots"
