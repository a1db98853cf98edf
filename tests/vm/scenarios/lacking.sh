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
check "no bpffs: up stops" refused 4 'mount -t bpf bpf /sys/fs/bpf' netslot up
check "no bpffs: serve --up stops" refused 4 'mount -t bpf bpf /sys/fs/bpf' netslot serve --up

# The initramfs' own script: whatever it meets, it ends well and tells the kernel's log.
told() { dmesg | grep -q "netslot.*$1"; }
stage() { /usr/share/netslot/initramfs/up; }
configure 'slots = 3
rules.slot = "/etc/netslot/slot.image"'
check "no rule image: the initramfs goes on" stage
check "no rule image: the kernel's log has the reason" told '/etc/netslot/slot.image'
check "no rule image: and that the boot goes on" told 'the initramfs made no whole pool (exit 3), the boot goes on'
made_slots() { ip -o link | grep -c ': slot'; }
check "no rule image: no slot was made" is 0 made_slots
configure 'slots = 3'
rm /dev/net/tun
umount /sys/fs/bpf
check "no bpffs and no /dev/net/tun: the initramfs mends both" stage
check "and the pool is made" is 3 made_slots
check "and served" serve

# Another version's records: the daemon stops with the reason, slots stay.
check "a slot is leased" lease --tag kept
check "the daemon ends when asked" stop TERM
pins=/sys/fs/bpf/netslot
config_bytes() { bpftool -j map dump pinned $pins/config | jq -r '.[0].value | join(" ")'; }
# layout VERSION: the pinned configuration with that layout in its first byte.
layout() {
    layout_bytes="$1 $(config_bytes | cut -d ' ' -f 2-)"
    size=$(bpftool -j map show pinned $pins/config | jq .bytes_value)
    bpftool map create $pins/other type array key 4 value "$size" entries 1 name config || return 1
    # shellcheck disable=SC2086 # a list of bytes
    bpftool map update pinned $pins/other key 0 0 0 0 value $layout_bytes || return 1
    mv $pins/other $pins/config
}
check "the records are another version's" layout 0x03
check "another layout: serve stops" refused 1 'has layout 3, this netslot knows 2' netslot serve --up
check "another layout: the initramfs goes on" stage
check "another layout: the kernel's log has the reason" told 'has layout 3'
check "another layout: slots are as they were" is 3 made_slots
check "the records are this version's again" layout 0x02
check "they are served" serve
check "with the lease" is 1 count leased
check "which is given back" give_back
check "the daemon ends" stop TERM
check "and all is taken down" netslot destroy
finish
