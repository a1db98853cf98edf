#!/bin/bash
# The Debian package installed, upgraded over a live pool, and removed, under systemd: deb.sh BINARY
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
    printf '[Unit]\nDefaultDependencies=no\nAfter=multi-user.target\n[Service]\nExecStart=/out/deb.sh --inside\n' \
        >"$new/etc/systemd/system/inside.service"
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
--inside) ;;
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
        rm -rf "$root"
        if ! debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2,nftables,procps bookworm "$root" >&2; then
            echo "SKIPPED: no Debian could be had" >&2
            [ -z "${CI-}" ]
            exit
        fi
        touch "$root/.whole"
    fi
    out=$(mktemp -d) work=$(mktemp -d)
    trap 'rm -rf "$out" "$work"' EXIT
    for version in 1 2; do
        make --silent deb-of-files INSTALL_BINARY="$binary" DEB_VERSION=0.0.$version STAGE="$work/stage" \
            DEB="$out/$version.deb" >/dev/null
    done
    rm -rf "$work/stage"
    install -m 0755 tests/deb.sh "$out/deb.sh"
    # It ends by itself; the time is for one that hangs.
    timeout --signal=KILL 300 unshare --mount --net --pid --kill-child --cgroup --uts --ipc --fork --propagation private \
        tests/deb.sh --container "$(realpath "$root")" "$work" "$out" >"$out/console" 2>&1 || true
    cat "$out/log" 2>/dev/null || cat "$out/console"
    grep --quiet --line-regexp "all is well" "$out/log"
    exit
    ;;
esac

# From here on: inside, as a service of the little host.
exec >/out/log 2>&1
export DEBIAN_FRONTEND=noninteractive
failed() {
    echo "FAILED: $1"
    journalctl --no-pager --boot --unit netslot --unit netslot-up | tail -n 30
    systemctl --force --force poweroff
    exit 1
}
trap 'failed "line $LINENO"' ERR
is() { [ "$2" = "$3" ] || failed "$1: '$2' is not '$3'"; }
number() { netslot status --json | tr -d ' \n' | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
main_pid() { systemctl show netslot --property MainPID --value; }
# Until a command succeeds.
until_it() {
    for _ in $(seq 300); do
        if "$@"; then return; fi
        sleep 0.1
    done
    failed "never: $*"
}
leases_are() { [ "$(number leased)" = "$1" ]; }
slots_here() { ip -brief link | grep -c '^slot' || true; }

echo "- a first installation: files, group, enabled, not started"
dpkg --install /out/1.deb
getent group netslot
for unit in netslot-up.service netslot.service netslot.socket; do
    is "$unit" "$(systemctl is-enabled $unit)" enabled
    is "$unit" "$(systemctl is-active $unit || true)" inactive
done
netslot --version
zcat /usr/share/man/man1/netslot-serve.1.gz | grep -q "with its connections"
bash -c 'set +u; complete -p netslot 2>/dev/null; . /usr/share/bash-completion/completions/netslot; complete -p netslot'
printf 'slots = 4\n' >/etc/netslot/netslot.toml

echo "- a start"
systemctl start netslot-up.service netslot.socket netslot.service
is "state" "$(systemctl is-active netslot-up netslot netslot.socket | sort -u)" active
is "slots" "$(number slots)" 4
is "host ends" "$(slots_here)" 4
is "the socket" "$(stat --format %a:%G /run/netslot/netslot.sock)" 660:netslot
journalctl --no-pager --unit netslot | grep "4 slots: 0 created"

echo "- an upgrade while all is leased and a request waits"
netslot lease --count 4 --tag kept
netslot lease --wait 60s >/tmp/waited &
waiting=$!
until_it sh -c 'netslot status | grep -q "waiting *1"'
before=$(main_pid)
dpkg --install /out/2.deb
is "version" "$(dpkg-query --show --showformat '${Version}' netslot)" 0.0.2
[ "$(main_pid)" != "$before" ] || failed "the old daemon serves on"
is "leases" "$(number leased)" 4
netslot release 2 --generation 1
wait $waiting || failed "the request that waited: $?"
cat /tmp/waited
is "pools made" "$(journalctl --no-pager --unit netslot --unit netslot-up | grep -c "4 made")" 1

echo "- the configuration, broken: an upgrade leaves the old daemon serving"
before=$(main_pid)
echo 'slots = "many"' >/etc/netslot/netslot.toml
dpkg --install /out/1.deb
is "main pid" "$(main_pid)" "$before"
printf 'slots = 4\n' >/etc/netslot/netslot.toml
is "leases" "$(number leased)" 4

echo "- a removal with leases, and nobody there to ask: refused"
if dpkg --remove netslot; then failed "removed"; fi
is "state" "$(systemctl is-active netslot)" active
is "host ends" "$(slots_here)" 4

echo "- a removal with none"
netslot list --state leased | awk '$2 == "leased" { print $1, $3 }' | while read -r slot generation; do
    netslot release "$slot" --generation "$generation"
done
until_it leases_are 0
dpkg --remove netslot
is "state" "$(systemctl is-active netslot netslot-up | sort -u || true)" inactive
is "host ends" "$(slots_here)" 0
[ ! -e /run/netslot/vault ] || failed "the vault is still there"
[ -e /etc/netslot/netslot.toml ] || failed "the configuration is gone before a purge"

echo "- a purge"
dpkg --purge netslot
left=$(find / -xdev -name '*netslot*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/tmp/*' | sort)
is "what is left" "$left" ""
echo "all is well"
systemctl --force --force poweroff
