#!/bin/sh
# A Debian host has booted whose configuration names an uplink that it does not have: neither the initramfs nor the units
# could make the pool. All else must be there, the reason told, and netslot must begin as soon as the fault is mended.
. /lib.sh
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
of() { systemctl show --value -p "$2" "$1"; }
route() { ip route show default | grep -q eth0; }
check "the host is up" until_true systemctl -q is-active multi-user.target systemd-networkd.service
check "its network is configured" until_true route
told() { dmesg | grep netslot | grep -q "$1"; }
check "the initramfs has told the reason" told eth9
check "and that the boot goes on" told 'the boot goes on'
check "netslot-up.service has failed" is failed of netslot-up.service ActiveState
reason() { journalctl -q -o cat -b -u "$1" | grep -q eth9; }
check "and says why" reason netslot-up.service
check "so does netslot.service" until_true reason netslot.service
check "no other unit has failed" is 0 sh -c 'systemctl --failed --no-legend --plain | grep -vc "^netslot"'
sed -i s/eth9/eth0/ /etc/netslot/netslot.toml
serves() { systemctl -q is-active netslot.service && netslot -qq status >/dev/null 2>&1; }
check "mended, the service comes by itself" until_true serves
check "with all slots" until_true is 4 count free
check "netslot-up.service is content too" systemctl restart netslot-up.service
finish
