#!/bin/sh
# What busybox's DHCP client calls with what it was given.
. /lib.sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
ip route add default via "$router"
