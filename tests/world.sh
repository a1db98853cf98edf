#!/bin/bash
# Runs a command on a host of its own: world.sh COMMAND [ARGUMENT…]
#
# Private network and mount namespaces play the host: an empty /run, its own /sys and bpffs, and an uplink to a
# namespace `network` that plays the network and knows the way to the slots. Nothing on the machine is touched, and all
# of it is gone with the last process in it.
set -euo pipefail

if [ "${1-}" != --inside ]; then
    exec unshare --net --mount --propagation private -- "$0" --inside "$@"
fi
shift

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# What is mounted below a /run that is merely covered would still be listed in /proc/self/mountinfo.
umount --recursive --lazy /run 2>/dev/null || true
mount -t tmpfs -o mode=0755 run /run
mount -t sysfs sys /sys
mount -t bpf bpf /sys/fs/bpf

ip link set lo up
ip netns add network
ip link add uplink0 type veth peer name net0 netns network
ip address add 198.51.100.2/24 dev uplink0
ip link set uplink0 up
ip -n network address add 198.51.100.1/24 dev net0
ip -n network link set net0 up
ip -n network route add 100.64.0.0/15 via 198.51.100.2
ip route add default via 198.51.100.1
sysctl --quiet --write net.ipv4.ip_forward=1

exec "$@"
