#!/bin/bash
# debian.sh OUT KERNEL RELEASE SUITE MAKER SCENARIO: a Debian root of that suite with systemd and an initramfs made by MAKER
# (initramfs-tools or dracut), as OUT/root.img and OUT/initrd; scenarios/SCENARIO.sh runs in it once it has booted. This
# tree's package is installed, and its slots are made in the initramfs; but for the scenario `package`, which is handed two
# versions of it, and `broken`, whose uplink is not there. KERNEL is the unpacked kernel package of that release; NETSLOT names the binary. The bare root is made once,
# by debootstrap. Runs as root; all mounts are in a namespace of its own.
set -euo pipefail
out=$1 kernel=$2 release=$3 suite=$4 maker=$5 scenario=$6
here=$(cd "$(dirname "$0")/../.." && pwd)
packages=systemd-sysv,udev,dbus,kmod,iproute2,iputils-ping,initramfs-tools,dracut-core,procps,nftables,jq,zstd,cpio

if [ -z "${IN_NAMESPACE:-}" ]; then
    export IN_NAMESPACE=1
    exec unshare --mount --propagation private "$0" "$@"
fi

base=$(dirname "$out")/../debian-$suite
if [ ! -d "$base" ]; then
    # One package of some hundred that does not come ends it, so it is tried again.
    for _ in 1 2 3; do
        rm -rf "$base.half"
        debootstrap --variant=minbase --include="$packages" "$suite" "$base.half" http://deb.debian.org/debian \
            >"$base.log" && break
        sleep 5
    done
    rm -rf "$base.half"/var/cache/apt/archives/*.deb "$base.half"/var/lib/apt/lists/*
    mv "$base.half" "$base"
fi

root=$out/root
rm -rf "$root"
mkdir -p "$out"
cp -a "$base" "$root"
mkdir "$root/debs"
make -s -C "$here" pages
for version in 1 2; do
    make -s -C "$here" deb-of-files INSTALL_BINARY="$NETSLOT" STAGE="$out/stage" DEB="$root/debs/$version.deb" \
        DEB_VERSION="0.0.$version" >/dev/null
done
rm -rf "$out/stage"
for modules in "$kernel/lib/modules" "$kernel/usr/lib/modules"; do
    [ ! -d "$modules" ] || cp -a "$modules/." "$root/usr/lib/modules/"
done
cp "$kernel/boot/config-$release" "$root/boot/"

# A network for everything that nobody else claims, as images come with it.
printf '[Match]\nName=*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/90-all.network"
printf '[Match]\nName=eth0\n[Network]\nAddress=198.51.100.2/24\nGateway=198.51.100.1\n' >"$root/etc/systemd/network/20-eth0.network"
printf '/dev/vda / ext4 rw 0 1\n' >"$root/etc/fstab"
: >"$root/etc/machine-id"
install -m 0755 -t "$root" "$here/tests/vm/scenarios/$scenario.sh"
install -m 0755 -t "$root/debs" "$here/tests/package.sh"
install -m 0644 "$here/tests/vm/scenarios/lib.sh" "$root/lib.sh"
cat >"$root/etc/systemd/system/probe.service" <<END
[Unit]
After=netslot.service multi-user.target
[Service]
ExecStart=/$scenario.sh
END

mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
inside depmod "$release"
if [ "$scenario" != package ]; then
    inside dpkg --install /debs/1.deb >"$out/dpkg.log"
    cat >"$root/etc/netslot/netslot.toml" <<END
slots = $(tr ' ' '\n' <<<"$APPEND" | sed -n 's/^slots=//p')
# There is no default route in an initramfs.
uplink = "eth0"
mtu = 1400
[rules]
slot = "/usr/share/netslot/slot.nft"
root = "/usr/share/netslot/root.nft"
END
    [ "$scenario" != broken ] || sed -i 's/"eth0"/"eth9"/' "$root/etc/netslot/netslot.toml"
    touch "$root/etc/netslot/initramfs"
fi
inside systemctl -q enable systemd-networkd.service
ln -sf /etc/systemd/system/probe.service "$root/etc/systemd/system/multi-user.target.wants/probe.service"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
case $maker in
    initramfs-tools)
        # A list of its own instead of all drivers there are.
        printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/small"
        printf 'virtio_blk\nvirtio_net\next4\n' >"$root/etc/initramfs-tools/modules"
        inside mkinitramfs -o /boot/initrd "$release"
        ;;
    dracut)
        inside dracut --quiet --no-hostonly --add netslot --no-early-microcode --add-drivers 'virtio_blk virtio_net ext4' \
            --omit 'network crypt lvm mdraid multipath plymouth dm' --force /boot/initrd "$release"
        ;;
esac
cp "$root/boot/initrd" "$out/initrd"
umount -l "$root/proc" "$root/sys" "$root/dev" "$root/run"
rm -f "$out/root.img"
mke2fs -q -t ext4 -d "$root" "$out/root.img" 900M
rm -rf "$root"
