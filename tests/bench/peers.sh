#!/bin/bash
# Makes N slots as others do, one after the other, in the world it is started in: peers.sh batch|cni|netavark N
#
# Prints one JSON object: who, slots, seconds in all and the milliseconds that each slot took.
set -euo pipefail

who=$1 slots=$2
mtu=1430
cni=/usr/lib/cni/bridge
netavark=/usr/lib/podman/netavark

# netslot's very slot by the strongest shell way: two `ip` processes, each with all it can do in one batch.
prepare_batch() { :; }
make_batch() {
    local slot=$1 ns=s$1 host_mac up_mac ip index
    printf -v host_mac '06:4e:53:00:%02x:%02x' $((slot >> 8)) $((slot & 255))
    printf -v up_mac '02:4e:53:00:%02x:%02x' $((slot >> 8)) $((slot & 255))
    ip=100.64.$(((slot + 2) >> 8)).$(((slot + 2) & 255))
    index=$((100000 + slot))
    ip -batch - <<-BATCH
	netns add $ns
	link add slot$slot index $index address $host_mac mtu $mtu numtxqueues 1 numrxqueues 1 type veth peer name up0 index 3 address $up_mac mtu $mtu numtxqueues 1 numrxqueues 1 netns $ns
	link set slot$slot up
	route add $ip dev slot$slot scope link
	neigh add $ip lladdr $up_mac dev slot$slot nud permanent
	BATCH
    ip -netns "$ns" -batch - <<-BATCH
	link add br0 index 2 address 06:00:ac:10:00:01 mtu $mtu type bridge mcast_snooping 0 vlan_default_pvid 0
	tuntap add dev tap0 mode tap vnet_hdr
	link set tap0 address 02:4e:53:ff:ff:ff mtu $mtu master br0
	addr add 172.16.0.1/30 dev br0
	addr add $ip/32 dev up0
	link set lo up
	link set br0 up
	link set tap0 up
	link set up0 up
	route add default via 100.64.0.1 dev up0 onlink
	neigh add 100.64.0.1 lladdr $host_mac dev up0 nud permanent
	neigh add 172.16.0.2 lladdr 06:00:ac:10:00:02 dev br0 nud permanent
	BATCH
}

# Debian's CNI plugins: `bridge` with addresses from `host-local`, no masquerading.
prepare_cni() {
    export CNI_PATH=${cni%/*} CNI_COMMAND=ADD CNI_IFNAME=eth0
    cni_config=$(jq --null-input --compact-output '{cniVersion: "1.0.0", name: "bench", type: "bridge", bridge: "cni0",
        isGateway: true, ipMasq: false, ipam: {type: "host-local", dataDir: "/run/cni", subnet: "10.22.0.0/16",
        routes: [{dst: "0.0.0.0/0"}]}}')
}
make_cni() {
    ip netns add "s$1"
    CNI_CONTAINERID="c$1" CNI_NETNS="/run/netns/s$1" "$cni" <<<"$cni_config" >/dev/null
}

# Podman's netavark: its bridge driver, which always sets up a firewall.
prepare_netavark() {
    export NETAVARK_FW=iptables
    mkdir -p /run/netavark
    network_id=$(printf '%064d' 1)
}
make_netavark() {
    local slot=$1 ip=10.88.$((($1 + 2) >> 8)).$((($1 + 2) & 255))
    ip netns add "s$slot"
    "$netavark" --config /run/netavark setup "/run/netns/s$slot" >/dev/null <<-JSON
	{"container_id": "$(printf '%012d' "$slot")", "container_name": "c$slot",
	 "networks": {"bench": {"interface_name": "eth0", "static_ips": ["$ip"]}},
	 "network_info": {"bench": {"name": "bench", "id": "$network_id", "driver": "bridge", "network_interface": "nv0",
	  "dns_enabled": false, "internal": false, "ipv6_enabled": false,
	  "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}]}}}
	JSON
}

"prepare_$who"
stamps=("$EPOCHREALTIME")
for ((slot = 0; slot < slots; slot++)); do
    "make_$who" "$slot"
    stamps+=("$EPOCHREALTIME")
done
printf '%s\n' "${stamps[@]}" | jq --slurp --compact-output --arg who "$who" \
    '{who: $who, slots: (length - 1), seconds: (last - first),
      slot_ms: [range(1; length) as $n | (.[$n] - .[$n - 1]) * 1000]}'
