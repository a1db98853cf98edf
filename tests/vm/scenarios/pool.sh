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
check "the daemon serves them" serve
check "a slot is leased" lease --tag first
check "it is listed" is 1 count leased
check "the others are free" is 199 count free
check "it is given back" give_back
free_again() { [ "$(count free)" = 200 ]; }
check "and is free again" until_true free_again
check "cleaned in place" is '' grep 'is quarantined' /run/serve.log
check "every slot looks like one that nobody ever had" netslot verify
check "the daemon ends when asked" stop TERM
check "destroy takes all down" netslot destroy
devices() { ip -o link | grep -c ': slot'; }
check "no device is left" is 0 devices
finish
