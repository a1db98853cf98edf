#!/bin/sh
# A Debian host has booted: the initramfs made the pool, systemd changed the root, the units ran. What came of it, and what
# a thousand slots cost systemd. Run by probe.service.
. /lib.sh
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
slots=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^slots=//p')

# A unit's property, a time as microseconds since the kernel began.
of() { systemctl show --value -p "$2" "$1"; }
until_true systemctl -q is-active netslot.service multi-user.target
echo "measured READY with $slots slots: $(($(of netslot.service ActiveEnterTimestampMonotonic) / 1000)) ms after the kernel began"
echo "measured netslot-up.service began at $(($(of netslot-up.service ExecMainStartTimestampMonotonic) / 1000)) ms, ended at $(($(of netslot-up.service ExecMainExitTimestampMonotonic) / 1000)) ms"
journalctl -q -o cat -u netslot-up -u netslot | sed 's/^/measured journal: /'
kernel_says() { dmesg | grep netslot; true; }
kernel_says | sed 's/^/measured kernel log: /'

check "netslot-up.service ended well" is success of netslot-up.service Result
check "netslot.service serves" is active of netslot.service ActiveState
adopted() { journalctl -q -o cat -u netslot-up | grep -o '0 made, [0-9]* adopted'; }
check "all slots were made in the initramfs, none by the units" is "0 made, $slots adopted" adopted
before() { [ "$(of "$1" "$2")" -le "$(of "$3" "$4")" ]; }
check "the pool stood before the network" \
    before netslot-up.service ExecMainExitTimestampMonotonic network-pre.target ActiveEnterTimestampMonotonic
check "and before networkd" \
    before netslot-up.service ExecMainExitTimestampMonotonic systemd-networkd.service ExecMainStartTimestampMonotonic
check "no unit failed" is 0 sh -c 'systemctl --failed --no-legend --plain | wc -l'
all_free() { [ "$(count free)" = "$slots" ]; }
check "every slot is free" until_true all_free

names() { ip -o link show type veth | grep -cE '^[0-9]+: slot[0-9]+@'; }
check "udev has renamed none" is "$slots" names
mac() { cat /sys/class/net/slot7/address; }
check "nor changed its MAC" is "$(mac)" sh -c "ip -o link show slot7 | sed 's/.*link.ether \\([^ ]*\\).*/\\1/'"
settled() { udevadm settle -t 60; }
check "udev comes to rest" settled
managed() {
    # Failed: it waited in vain for udev, among a thousand devices in a machine in software, and does nothing with it either.
    networkctl --no-legend --no-pager list 'slot*' | awk '$5 != "unmanaged" && $5 != "failed"' >/run/managed
    head -n 3 /run/managed >&2
    [ ! -s /run/managed ] || networkctl --no-pager status slot7 >&2
    wc -l </run/managed
}
none_managed() { [ "$(managed)" = 0 ]; }
check "networkd leaves them alone" until_true none_managed
unmanaged() { networkctl --no-legend --no-pager list 'slot*' | grep -c unmanaged; }
echo "measured networkd calls $(unmanaged) of $slots unmanaged"
devices() { systemctl list-units --no-legend --plain --type=device | grep -c 'slot[0-9]'; }
check "no device unit stands for one" is 0 devices
mounts() { grep -c . /proc/1/mountinfo; }
ours() { grep -c netslot /proc/1/mountinfo; }
check "PID 1 sees two mounts of ours" is 2 ours

reload_ms() {
    reload_began=$(uptime_ms)
    systemctl daemon-reload
    echo $(($(uptime_ms) - reload_began))
}
reload_ms >/dev/null
echo "measured daemon-reload with $slots slots: $(reload_ms) ms, $(mounts) mounts in PID 1's table"
check "a slot is leased" lease --tag kept
check "the units are started again" systemctl restart netslot-up.service netslot.service
kept() { netslot list --json --tag kept | jq -c '[.[0].slot, .[0].generation]'; }
check "and the lease is there" is "$(jq -c '[.slot, .generation]' /run/lease.json)" kept
check "the daemon is killed" systemctl kill -s KILL netslot.service
back() { netslot -qq status >/dev/null 2>&1 && systemctl -q is-active netslot.service; }
check "and comes back" until_true back
check "with the lease" is "$(jq -c '[.slot, .generation]' /run/lease.json)" kept
check "it is given back" give_back
check "every slot is free again" until_true all_free
remade() { journalctl -q -o cat -u netslot | grep -c 'is quarantined'; }
check "and none was made anew" is 0 remade

# The same number of namespaces as everybody else keeps them.
binds() {
    for n in $(seq "$slots"); do
        ip netns add "bind$n" || return 1
    done
}
check "as many namespaces are bound in /run/netns" binds
reload_ms >/dev/null
echo "measured daemon-reload with $slots binds in /run/netns beside: $(reload_ms) ms, $(mounts) mounts in PID 1's table"
finish
