# netslot: what a person types. `make` builds the static binary; `make demo` shows it; `make test` proves it.
TARGET  := $(shell uname -m)-unknown-linux-gnu
BINARY  := target/$(TARGET)/release/netslot
# The explicit target keeps crt-static away from proc macros, which cannot be built with it. Packed relocations make a
# position-independent static binary 80 KB smaller.
STATIC  := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
CARGO   := cargo

.PHONY: all demo test test-vm bench lint tools ebpf ebpf-check install clean

all: $(BINARY)

$(BINARY): FORCE
	$(STATIC) $(CARGO) build --release --target $(TARGET)

# Everything a fresh Debian 12 lacks for demo, test and bench.
tools:
	tests/tools.sh

demo: tools all
	tests/demo.sh $(BINARY)

test: tools all
	NETSLOT=$(abspath $(BINARY)) tests/run.sh

# The virtual machines, those that take minutes too; `make test` runs the short ones.
test-vm: tools all
	tests/tools.sh vm
	NETSLOT=$(abspath $(BINARY)) $(CARGO) test --test vm -- --include-ignored --show-output

bench: tools all
	NETSLOT=$(abspath $(BINARY)) tests/bench/run.sh

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p netslot-protocol --no-default-features -- -D warnings   # the core: no std, no allocator
	tests/deny.sh

# The eBPF object is committed, so that all else builds with stable Rust alone; ebpf/README.md names the toolchain.
ebpf:
	ebpf/build.sh

ebpf-check:
	ebpf/build.sh --check

install: all
	install -D -m 0755 $(BINARY) $(DESTDIR)/usr/bin/netslot
	install -D -m 0644 -t $(DESTDIR)/usr/share/netslot systemd/slot.nft systemd/root.nft

clean:
	$(CARGO) clean

FORCE:
