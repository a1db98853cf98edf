#!/bin/bash
# Installs, on Debian 12 or later, what is missing for `make`, `make test`, `make demo` and `make bench`, and nothing
# that is there already. With everything in place it takes a few milliseconds and needs neither root nor the network.
# With the word `vm`: what is missing for virtual machines, which nothing but tests/vm needs; with `deb`: for a small Debian;
# with `fuzz`: for tests/fuzz.
set -euo pipefail

# The compiler that the workspace needs (rust-version in Cargo.toml).
RUST_MIN=1.88

# A program, or a file that stands for one, and the package that brings it. The first word that exists counts.
TOOLS='
cc                               gcc
/usr/include/linux/if_link.h     linux-libc-dev
/usr/include/stdlib.h            libc6-dev
make                             make
ip                               iproute2
ping                             iputils-ping
nft                              nftables
iptables                         iptables
bpftool                          bpftool
conntrack                        conntrack
ethtool                          ethtool
/usr/lib/cni/bridge              containernetworking-plugins
/usr/lib/podman/netavark         netavark
jq                               jq
strace                           strace
nsenter                          util-linux
ps                               procps
systemd-analyze                  systemd
udevadm                          udev
traceroute                       traceroute
tshark                           tshark
capinfos                         wireshark-common
busybox                          busybox
dhclient                         isc-dhcp-client
dhcpcd                           dhcpcd-base
/lib/systemd/systemd-networkd    systemd
'

if [ "${1:-}" = vm ]; then
    TOOLS='
qemu-system-x86_64               qemu-system-x86
ip                               iproute2
jq                               jq
xz                               xz-utils
debootstrap                      debootstrap
mke2fs                           e2fsprogs
'
fi

if [ "${1:-}" = deb ]; then
    TOOLS='
debootstrap                      debootstrap
unshare                          util-linux
'
fi

if [ "${1:-}" = fuzz ]; then
    TOOLS='
c++                              g++
'
fi

# Administrators' programs are not on every user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

has() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Whether the rustc on PATH is there, works and is new enough.
has_rust() {
    local version
    has cargo && version=$(rustc --version 2>/dev/null) || return 1
    version=${version#rustc }
    version=${version%% *}
    [ "$(printf '%s\n' "$RUST_MIN" "${version%%-*}" | sort -V | head -n 1)" = "$RUST_MIN" ]
}

missing=()
while read -r tool package; do
    if [ -n "$tool" ] && ! has "$tool"; then
        missing+=("$package")
    fi
done <<<"$TOOLS"
if ! has_rust; then
    echo "tools: no Rust $RUST_MIN or newer on PATH: Debian's rustc-web and cargo-web will do" >&2
    missing+=(rustc-web cargo-web)
fi
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

install="apt-get install --yes --no-install-recommends ${missing[*]}"
if ! has apt-get; then
    echo "tools: missing, and this is no Debian: ${missing[*]} (Debian's names); install them your system's way" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "tools: missing: ${missing[*]}; as root: apt-get update && $install" >&2
    exit 1
fi
echo "tools: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# One answer that does not come is no reason to end.
install=${install/apt-get/apt-get -o Acquire::Retries=5}
# The lists may be months old, or not there at all in a fresh image.
apt-get -o Acquire::Retries=5 update --quiet=2
# shellcheck disable=SC2086 # a list of words by intent
$install
if ! has_rust; then
    echo "tools: $(rustc --version 2>&1) is still older than $RUST_MIN; install a newer one, as from https://rustup.rs" >&2
    exit 1
fi
