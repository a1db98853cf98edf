#!/bin/bash
# /usr/lib/dracut/modules.d/90netslot/module-setup.sh: the same for dracut. Asked for by name alone
# (add_dracutmodules+=" netslot "), as what is made so early needs a configuration that says so.
# dracut sources this file and hands in the variables.
# shellcheck disable=SC2154

check() {
    [ -x /usr/bin/netslot ] || return 1
    return 255
}

depends() {
    echo base
}

installkernel() {
    local module
    while read -r module; do
        case $module in '' | '#'*) continue ;; esac
        # Not only what this host has loaded now.
        hostonly='' instmods "$module"
    done </usr/share/netslot/initramfs/modules
    hostonly='' instmods '=net/netfilter' '=net/ipv4/netfilter' '=net/ipv6/netfilter'
}

install() {
    inst_multiple modprobe mount mkdir mknod grep cat
    if ! /usr/share/netslot/initramfs/collect "$initdir"; then
        derror 'netslot: not in this initramfs, for the reason above'
        return 1
    fi
    # Devices are there, the root is mounted, and nothing of it runs yet.
    inst_hook pre-pivot 50 "$moddir/netslot-up.sh"
}
