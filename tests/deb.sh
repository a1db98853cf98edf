#!/bin/bash
# The Debian package installed, upgraded over a live pool, and removed (tests/package.sh), under systemd: deb.sh BINARY
#
# systemd runs as process 1 of namespaces of its own, in a small Debian that is kept in target/deb and never written to.
# Of the machine it sees nothing but the kernel: its own /dev, /proc/sys read-only but for its network namespace, no udevd.
set -euo pipefail

case ${1-} in
--container)
    # As the first process of the new namespaces: makes the little host, and becomes its systemd.
    root=$2 work=$3
    mount -t tmpfs tmpfs "$work"
    mkdir "$work"/{upper,scratch,root,sysnet}
    mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/scratch" overlay "$work/root"
    new=$work/root
    mount -t proc proc "$new/proc"
    mount --bind "$new/proc/sys/net" "$work/sysnet"
    mount --bind "$new/proc/sys" "$new/proc/sys"
    mount -o remount,bind,ro "$new/proc/sys"
    mount --move "$work/sysnet" "$new/proc/sys/net"
    mount -t sysfs -o ro sys "$new/sys"
    mount -t bpf bpf "$new/sys/fs/bpf"
    mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
    mount -t tmpfs -o mode=0755 run "$new/run"
    mount -t tmpfs -o mode=0755 dev "$new/dev"
    mkdir "$new"/dev/{net,pts,shm} "$new/out"
    for node in null zero full random urandom tty; do
        touch "$new/dev/$node"
        mount --bind "/dev/$node" "$new/dev/$node"
    done
    mknod "$new/dev/net/tun" c 10 200
    # What systemd says on its console goes nowhere.
    mknod "$new/dev/console" c 1 3
    mknod "$new/dev/kmsg" c 1 3
    ln -s /proc/self/fd "$new/dev/fd"
    mount --bind "$4" "$new/out"
    for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
        systemd-udev-trigger.service systemd-sysctl.service getty.target console-getty.service; do
        ln -sf /dev/null "$new/etc/systemd/system/$unit"
    done
    cat >"$new/etc/systemd/system/inside.service" <<'END'
[Unit]
DefaultDependencies=no
After=multi-user.target
[Service]
ExecStart=/bin/sh -c '/out/package.sh /out; systemctl --force --force poweroff'
StandardOutput=truncate:/out/log
StandardError=inherit
END
    ln -s ../inside.service "$new/etc/systemd/system/multi-user.target.wants/"
    ip link set lo up
    ip link add uplink0 type veth peer name far0
    ip address add 198.51.100.2/24 dev uplink0
    ip link set uplink0 up
    ip link set far0 up
    ip route add default via 198.51.100.1
    cd "$new"
    mkdir old
    pivot_root . old
    umount --lazy /old
    exec env -i container=netslot-test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --log-target=journal --show-status=0
    ;;
*)
    here=$(cd "$(dirname "$0")/.." && pwd)
    binary=$(realpath "${1:?usage: deb.sh BINARY}")
    if [ "$(id -u)" -ne 0 ]; then
        echo "SKIPPED: tests/deb.sh needs root" >&2
        [ -z "${CI-}" ]
        exit
    fi
    cd "$here"
    root=target/deb/root
    mkdir -p target/deb
    if [ ! -e "$root/.whole" ]; then
        # One package of many that does not come ends it, so it is tried again.
        for _ in 1 2 3; do
            rm -rf "$root"
            debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2,nftables,procps bookworm "$root" >&2 &&
                touch "$root/.whole" && break
            sleep 5
        done
        if [ ! -e "$root/.whole" ]; then
            echo "SKIPPED: no Debian could be had" >&2
            [ -z "${CI-}" ]
            exit
        fi
    fi
    out=$(mktemp -d) work=$(mktemp -d)
    trap 'rm -rf "$out" "$work"' EXIT
    for version in 1 2; do
        make --silent deb-of-files INSTALL_BINARY="$binary" DEB_VERSION=0.0.$version STAGE="$work/stage" \
            DEB="$out/$version.deb" >/dev/null
    done
    rm -rf "$work/stage"
    install -m 0755 tests/package.sh "$out/package.sh"
    # It ends by itself; the time is for one that hangs.
    timeout --signal=KILL 900 unshare --mount --net --pid --kill-child --cgroup --uts --ipc --fork --propagation private \
        tests/deb.sh --container "$(realpath "$root")" "$work" "$out" >"$out/console" 2>&1 || true
    cat "$out/log" 2>/dev/null || cat "$out/console"
    grep --quiet --line-regexp "done" "$out/log"
    ;;
esac
