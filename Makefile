# netslot: what a person types. `make` builds the static binary; `make demo` shows it; `make test` proves it.
TARGET  := $(shell uname -m)-unknown-linux-gnu
BINARY  := target/$(TARGET)/release/netslot
# The explicit target keeps crt-static away from proc macros, which cannot be built with it. Packed relocations make a
# position-independent static binary 80 KB smaller.
STATIC  := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
CARGO   := cargo

.PHONY: all demo test test-vm bench lint tools ebpf ebpf-check install install-files clean

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

# Everything a package has, below DESTDIR; a configuration that is there stays. INSTALL_BINARY names another build.
INSTALL_BINARY := $(BINARY)
INSTALL_FILE   := install -D -m 0644
LIB            := $(DESTDIR)/usr/lib

install: all install-files

install-files:
	install -D -m 0755 $(INSTALL_BINARY) $(DESTDIR)/usr/bin/netslot
	$(INSTALL_FILE) -t $(DESTDIR)/usr/share/netslot systemd/slot.nft systemd/root.nft systemd/netslot.toml
	$(INSTALL_FILE) -t $(LIB)/systemd/system systemd/netslot-up.service systemd/netslot.service systemd/netslot.socket
	$(INSTALL_FILE) -t $(LIB)/systemd/network systemd/10-netslot.network systemd/10-netslot.link
	$(INSTALL_FILE) -t $(LIB)/udev/rules.d systemd/99-z-netslot.rules
	$(INSTALL_FILE) systemd/netslot.networkmanager $(LIB)/NetworkManager/conf.d/10-netslot.conf
	$(INSTALL_FILE) systemd/netslot.sysusers $(LIB)/sysusers.d/netslot.conf
	$(INSTALL_FILE) systemd/netslot.tmpfiles $(LIB)/tmpfiles.d/netslot.conf
	$(INSTALL_FILE) systemd/netslot.modules $(LIB)/modules-load.d/netslot.conf
	$(INSTALL_FILE) systemd/netslot.sysctl $(LIB)/sysctl.d/50-netslot.conf
	test -e $(DESTDIR)/etc/netslot/netslot.toml || $(INSTALL_FILE) systemd/netslot.toml $(DESTDIR)/etc/netslot/netslot.toml

clean:
	$(CARGO) clean

FORCE:
