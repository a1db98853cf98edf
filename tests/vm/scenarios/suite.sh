#!/bin/sh
# A test program of this tree on this kernel: `suite=` on the kernel's command line names it, `skip=` what it leaves out.
. /lib.sh
mounts
ip link set lo up
export NETSLOT=/usr/sbin/netslot CI=true
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }
skip=$(word skip | tr ',' '\n' | sed 's/^/--skip /' | tr '\n' ' ')
# shellcheck disable=SC2086 # a list of words by intent
"/$(word suite)" --test-threads=1 --nocapture $skip >/run/suite.log 2>&1
ended=$?
sed -n 's/.*verifier: /measured /p' /run/suite.log
# One line per test, as libtest prints them.
sed -n 's/^test \(.*\) \.\.\. .*ok$/ok \1/p' /run/suite.log
sed -n '/^failures:$/,/^test result/s/^    \([^ ]*\)$/FAIL \1/p' /run/suite.log
sed -n 's/^test result: /measured /p' /run/suite.log
[ -z "$skip" ] || echo "measured left out: $(word skip)"
# What a failed one said; the verifier's log would fill the line.
[ $ended = 0 ] || grep -A120 panicked /run/suite.log | cut -c 1-300 | head -n 400 >/dev/ttyS0
check "all tests pass" [ $ended = 0 ]
finish
