# netslot: what a person types. `make` builds the static binary; `make demo` shows it; `make test` proves it.
TARGET  := $(shell uname -m)-unknown-linux-gnu
BINARY  := target/$(TARGET)/release/netslot
# The explicit target keeps crt-static away from proc macros, which cannot be built with it. Packed relocations make a
# position-independent static binary 80 KB smaller.
STATIC  := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
CARGO   := cargo

.PHONY: all demo test test-vm fuzz bench lint tools ebpf ebpf-check install install-files clean pages deb deb-of-files test-deb

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

# Each fuzz target for so many seconds.
SECONDS := 60

fuzz: tools
	tests/tools.sh fuzz
	tests/fuzz/run.sh $(SECONDS)

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

# Manual pages and completions, out of the command line's own help; not in the binary, which stays small.
PAGES := target/pages

pages:
	$(CARGO) run --quiet --example pages -- $(PAGES)

install: all pages install-files

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
	$(INSTALL_FILE) systemd/README.md $(DESTDIR)/usr/share/doc/netslot/README.md
	$(INSTALL_FILE) initramfs/README.md $(DESTDIR)/usr/share/doc/netslot/initramfs.md
	install -d $(DESTDIR)/usr/share/man/man1
	for page in $(PAGES)/man/*.1; do gzip -9nc $$page > $(DESTDIR)/usr/share/man/man1/$${page##*/}.gz; done
	$(INSTALL_FILE) $(PAGES)/bash $(DESTDIR)/usr/share/bash-completion/completions/netslot
	$(INSTALL_FILE) $(PAGES)/zsh $(DESTDIR)/usr/share/zsh/vendor-completions/_netslot
	$(INSTALL_FILE) $(PAGES)/fish $(DESTDIR)/usr/share/fish/vendor_completions.d/netslot.fish
	install -D -m 0755 -t $(DESTDIR)/usr/share/netslot/initramfs initramfs/collect initramfs/up
	$(INSTALL_FILE) -t $(DESTDIR)/usr/share/netslot/initramfs initramfs/modules
	install -D -m 0755 initramfs/initramfs-tools/hook $(DESTDIR)/usr/share/initramfs-tools/hooks/netslot
	install -D -m 0755 initramfs/initramfs-tools/script $(DESTDIR)/usr/share/initramfs-tools/scripts/init-premount/netslot
	install -D -m 0755 -t $(LIB)/dracut/modules.d/90netslot initramfs/dracut/module-setup.sh initramfs/dracut/netslot-up.sh
	test -e $(DESTDIR)/etc/netslot/netslot.toml || $(INSTALL_FILE) systemd/netslot.toml $(DESTDIR)/etc/netslot/netslot.toml

# The Debian package of the same. DEB_VERSION may say another version.
DEB_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DEB         := target/deb/netslot_$(DEB_VERSION)_$(shell dpkg --print-architecture 2>/dev/null).deb
STAGE       := target/deb/stage

deb: all pages deb-of-files

deb-of-files:
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install-files DESTDIR=$(STAGE)
	packaging/build.sh $(STAGE) $(DEB) $(DEB_VERSION)

# The package installed, upgraded over a live pool and removed, under systemd in namespaces of its own.
test-deb: tools all pages
	tests/tools.sh deb
	tests/deb.sh $(abspath $(BINARY))

clean:
	$(CARGO) clean

FORCE:
