#!/bin/sh
# A Debian host has booted, and is booted again without its kernel (systemctl soft-reboot): every process has ended, and what
# was mounted below /run is gone. The units must make the pool anew, and the lease that was there must be over. Run by
# probe.service, after the boot and after the soft reboot.
. /lib.sh
exec >>/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
slots=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^slots=//p')
serves() { systemctl -q is-active netslot-up.service netslot.service && netslot -qq status >/dev/null 2>&1; }

if [ ! -e /var/before ]; then
    check "the pool is served" until_true serves
    check "a slot is leased" lease --tag kept
    cp /run/lease.json /var/lease.json
    cat /proc/sys/kernel/random/boot_id >/var/before
    echo "measured $(systemctl --version | head -n 1)"
    systemctl soft-reboot
    exit
fi

check "all has begun anew under the same kernel" is "$(cat /var/before)" cat /proc/sys/kernel/random/boot_id
check "the pool is served again" until_true serves
said() { journalctl -q -o cat -b -u netslot-up -u netslot | grep -q "$1"; }
check "it was made anew" said '[1-9][0-9]* made, 0 adopted'
check "who looks reads that a lease was lost" said "slot $(jq .slot /var/lease.json) is leased.* gone"
all_free() { [ "$(count free)" = "$slots" ]; }
check "every slot is free, the leased one too" until_true all_free
ends() { ip -o link show type veth | grep -c ': slot'; }
check "each has its host end" is "$slots" ends
check "each is as it was made" netslot verify
check "a slot is leased" lease
check "and given back" give_back
check "every slot is free again" until_true all_free
finish
