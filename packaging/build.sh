#!/usr/bin/env bash
# Builds the Debian package of what `make install` installs: build.sh STAGE OUTPUT VERSION. With dpkg-deb, which every
# Debian has, so that the list of files stands once, in the Makefile.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: build.sh STAGE OUTPUT VERSION" >&2; exit 2; }
stage=$1 output=$2 version=$3
here=$(cd "$(dirname "$0")" && pwd)

install -d -m 0755 "$stage/DEBIAN"
install -m 0644 "$here/copyright" -D "$stage/usr/share/doc/netslot/copyright"
size=$(du -sk --exclude=DEBIAN "$stage" | cut -f 1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$(dpkg --print-architecture)/" -e "s/@SIZE@/$size/" \
    "$here/control" >"$stage/DEBIAN/control"
install -m 0755 -t "$stage/DEBIAN" "$here/config" "$here/postinst" "$here/prerm" "$here/postrm"
install -m 0644 -t "$stage/DEBIAN" "$here/templates" "$here/triggers"
# All of the administrator's own: an upgrade asks before it changes them.
(cd "$stage" && find etc -type f -printf '/%p\n' | sort) >"$stage/DEBIAN/conffiles"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zxz --build "$stage" "$output"
