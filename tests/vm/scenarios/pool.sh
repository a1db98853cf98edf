#!/bin/sh
# A pool of 200 slots on this kernel: made, adopted, served, leased, listed, released, taken down.
. /lib.sh
mounts
uplink
echo "measured user space after $(uptime_ms) ms"

tunnel=ebpf
if grep -q tunnel=off /proc/cmdline; then
    tunnel=off
    configure 'slots = 200'
    check "check tells that this kernel has no way out of a tunnel" refused 4 BPF_F_ADJ_ROOM_DECAP_L3_IPV4 netslot check
fi
configure "slots = 200
tunnel = \"$tunnel\""
began=$(uptime_ms)
check "check finds nothing lacking" netslot check
echo "measured check: $(($(uptime_ms) - began)) ms"
began=$(uptime_ms)
check "up makes 200 slots" netslot --json up
echo "measured up of 200 slots: $(($(uptime_ms) - began)) ms"
again() { netslot --json up | jq -c '[.created, .adopted, .repaired, .removed]'; }
check "up again makes none" is '[0,200,0,0]' again
check "each is as it was made" netslot verify
check "the daemon serves them" serve
check "a slot is leased" lease --tag first
check "it is listed" is 1 count leased
check "the others are free" is 199 count free
check "it is given back" give_back
free_again() { [ "$(count free)" = 200 ]; }
check "and is free again" until_true free_again
remade() { grep -c "is quarantined" /run/serve.log; }
check "being clean, and not made anew" is 0 remade
check "the daemon ends when asked" stop TERM
check "destroy takes all down" netslot destroy

# In the host's first namespace the kernel hands settings on from slot to slot, as nowhere else: small pools of each kind.
kind() {
    configure "slots = 4
$2"
    check "$1: up" netslot up
    [ -z "$3" ] || check "$1: $3 is loaded" modprobe "$3"
    check "$1: each is as it was made" netslot verify
    check "$1: serve" serve
    check "$1: a slot is leased" lease
    check "$1: it is given back" give_back
    four_free() { [ "$(count free)" = 4 ]; }
    check "$1: and is free again" until_true four_free
    check "$1: being clean, and not made anew" is 0 remade
    check "$1: the daemon ends" stop TERM
    check "$1: destroy" netslot destroy
}
[ $tunnel = off ] || kind geneve 'tunnel = "geneve"'
[ $tunnel = off ] || kind "without tunnels" 'tunnel = "off"'
# Modules of tunnels make a device in every namespace: the one in those that are there, the other in new ones too.
kind "a tunnel's module comes" "tunnel = \"$tunnel\"" ipip
kind "a tunnel's module is there" "tunnel = \"$tunnel\"" sit
kind "IPv6" "tunnel = \"$tunnel\"
slot_cidr6 = \"fd00:6e73::/96\"
guest.ip6 = \"fd00:6e73:1::2/64\"
guest.gateway_ip6 = \"fd00:6e73:1::1\""
devices() { ip -o link | grep -c ': slot'; }
check "no device is left" is 0 devices
finish
