#!/bin/sh
# A Debian host without netslot has booted: its package is installed, upgraded over a live pool, taken back, removed.
. /lib.sh
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
# Slots are made once there is a way to the network.
route() { ip route show default | grep -q eth0; }
check "the network is configured" until_true route
/debs/package.sh /debs || echo "FAIL package.sh ended with $?"
finish
