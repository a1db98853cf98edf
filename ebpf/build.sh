#!/bin/sh
# Builds ebpf/netslot.bpf.o from source: the same bytes wherever the folder is, with the toolchain of ebpf/TOOLCHAIN.
#
#   ebpf/build.sh             build, and write the object
#   ebpf/build.sh --check     build, and compare with the committed object
#
# On Debian 12 the distribution's rustc-web has a ready core library for the kernel's machine
# (libstd-rust-web-dev-bpf); elsewhere a nightly toolchain builds it from rust-src (BPF_RUSTC=nightly).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/ebpf
cargo_home=${CARGO_HOME:-$HOME/.cargo}
linker=${BPF_LINKER:-bpf-linker}
# Debian's compiler, whatever a rustup on the PATH says.
rustc=${BPF_RUSTC:-/usr/bin/rustc}
llvm=${LLVM_PREFIX:-/usr/lib/llvm-22}/bin

command -v "$linker" >/dev/null || {
	echo "build.sh: '$linker' not found: see ebpf/README.md for how to install it, or set BPF_LINKER" >&2
	exit 1
}

flags="-C linker=$linker -C target-cpu=v3 -C link-arg=--btf -C debuginfo=2 -C linker-plugin-lto -C panic=abort
 -C link-arg=--disable-expand-memcpy-in-order --cfg=bpf_target_arch=\"x86_64\"
 --remap-path-prefix=$root=/netslot --remap-path-prefix=$cargo_home=/cargo"
# Where a crate came from is no part of the object.
for source in "$cargo_home"/registry/src/*; do
	flags="$flags --remap-path-prefix=$source=/crates"
done

set -- "${1-}"
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTC RUSTC_WRAPPER || true
export CARGO_TARGET_DIR="$target" CARGO_ENCODED_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(printf '%s' "$flags" | tr -s ' \n' '\037')

cd "$root"
if [ "$rustc" = nightly ]; then
	cargo +nightly build --profile ebpf --package netslot-programs --locked --quiet --target bpfel-unknown-none -Z build-std=core
else
	RUSTC="$rustc" RUSTC_BOOTSTRAP=1 cargo build --profile ebpf --package netslot-programs --locked --quiet --target bpfel-unknown-none
fi

built=$target/netslot.bpf.o
cp "$target/bpfel-unknown-none/ebpf/netslot-programs" "$built"
# A symbol's name carries a hash of its crate's whole setting, which changes with every edit of the workspace: cut it out.
"$llvm/llvm-nm" --format=just-symbols "$built" | grep '^_R' | while read -r symbol; do
	echo "$symbol $(echo "$symbol" | sed 's/Cs[0-9A-Za-z]*_/C/g')"
done >"$built.symbols"
"$llvm/llvm-objcopy" --strip-debug --redefine-syms="$built.symbols" "$built"
rm "$built.symbols"

if [ "$1" = --check ]; then
	cmp "$built" "$here/netslot.bpf.o" && echo "ebpf/netslot.bpf.o is what its source builds"
else
	cp "$built" "$here/netslot.bpf.o"
	sha256sum "$here/netslot.bpf.o" | cut -d' ' -f1
fi
