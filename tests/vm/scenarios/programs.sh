#!/bin/sh
# The packet programs' own tests on this kernel: its verifier takes them, within the recorded work, and they do the same.
. /lib.sh
mounts
skip=''
case $(uname -r) in
    # Taking a tunnel's headers off takes BPF_F_ADJ_ROOM_DECAP_L3_IPV4 and _IPV6, which 6.3 brought; netslot check says so.
    6.1.*) skip='--skip a_bound_slots_packets_travel --skip an_ipv6_underlay_carries' ;;
esac
# shellcheck disable=SC2086 # a list of words by intent
/programs --test-threads=1 --nocapture $skip >/run/programs.log 2>&1
ended=$?
sed -n 's/.*verifier: /measured /p' /run/programs.log
# One line per test, as libtest prints them; what a failed one said follows on the kernel's line.
sed -n 's/^test \(.*\) \.\.\. .*ok$/ok \1/p; s/^test \(.*\) \.\.\. FAILED$/FAIL \1/p' /run/programs.log
# The verifier's log would fill the line.
[ $ended = 0 ] || grep -A3 panicked /run/programs.log | cut -c 1-300 >/dev/ttyS0
check "all programs' tests pass" [ $ended = 0 ]
finish
