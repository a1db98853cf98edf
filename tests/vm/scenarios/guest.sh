#!/bin/sh
# A tenant's guest: Debian's kernel, busybox's DHCP client, and nothing that knows of netslot. What it finds on its one
# device it tells on the second serial line; then it pings on until somebody ends it.
. /lib.sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
modprobe virtio_net
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }
server=$(word server)

ip link set lo up
ip link set eth0 up
dhcp() { udhcpc -i eth0 -s /udhcpc.sh -n -q -t 10 -T 1; }
check "DHCP" dhcp
echo "measured user space to an address: $(uptime_ms) ms after the kernel began"
mine() { ip -o -4 addr show dev eth0 | awk '{ print $4 }'; }
check "the address is the guest's" is 172.16.0.2/30 mine
mtu() { cat /sys/class/net/eth0/mtu; }
check "the MTU is the slot's" is "$(word mtu)" mtu
check "ping to the gateway" ping -c 3 -W 5 172.16.0.1
check "ping to the network" ping -c 3 -W 5 "$server"
fetch() { wget -q -O - "http://$server:8080/file" | md5sum | cut -d ' ' -f 1; }
check "HTTP" is "$(word md5)" fetch
echo "done"
# Whoever answers at the tenant's own address, once there is a binding.
while ! ping -c 1 -W 1 "$(word peer)"; do :; done >/dev/null 2>&1
check "the tenant's network is reached" ping -c 3 -W 5 "$(word peer)"
while :; do ping -c 1 -W 5 "$server" >/dev/null || echo "lost"; sleep 1; done
