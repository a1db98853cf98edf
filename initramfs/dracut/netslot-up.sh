#!/bin/sh
# /usr/lib/dracut/modules.d/90netslot/netslot-up.sh: sourced by dracut, so it must not exit.
/usr/share/netslot/initramfs/up
