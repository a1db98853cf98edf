#!/bin/sh
# What an early boot may lack: each stops netslot with the reason and what to do, and the boot goes on.
. /lib.sh
mounts
uplink
configure 'slots = 3'

rm /dev/net/tun
check "no /dev/net/tun: up stops" refused 4 /dev/net/tun netslot up
check "no /dev/net/tun: check tells" refused 4 'mknod -m 666 /dev/net/tun c 10 200' netslot check
mknod -m 666 /dev/net/tun c 10 200

module=$(find /lib/modules -name veth.ko)
# The uplink is a veth pair, too, and keeps the module in use: another takes its place for a while.
ip link del uplink0
ip link add uplink0 type dummy
ip link set uplink0 up
ip route add default dev uplink0
check "the module can go" rmmod veth
mv "$module" /run/veth.ko
check "no veth: up stops" refused 4 veth netslot up
sed -i '/veth.ko/d' "/lib/modules/$(uname -r)/modules.dep"
check "no veth: check tells" refused 4 CONFIG_VETH netslot check
insmod /run/veth.ko
ip link del uplink0
ip netns del network
uplink

configure 'slots = 3
rules.slot = "/etc/netslot/slot.rules"'
check "no rules: up stops" refused 3 /etc/netslot/slot.rules netslot up
echo 'table inet t {}' >/etc/netslot/slot.rules
check "rules as text and no nft: up says how" refused 4 'compile-rules' netslot up

configure 'slots = "many"'
check "a wrong configuration: up stops" refused 3 netslot.toml netslot up

configure 'slots = 3'
umount /sys/fs/bpf
check "no bpffs: check tells" refused 4 'mount -t bpf' netslot check
mount -t bpf bpf /sys/fs/bpf

check "with all there the pool is made" netslot up
check "and taken down" netslot destroy
finish
