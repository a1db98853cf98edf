#!/bin/sh
# The pool outlives the change of root: made, served and leased in the initramfs, then adopted from the new root. Runs
# twice as PID 1: first as the initramfs' init, then, with the word `after`, from the new root. `how=` on the kernel's
# command line says in whose manner the roots are changed.
. /lib.sh
slots=50
summary() { netslot --json up | jq -c '[.created, .adopted, .repaired, .removed]'; }
replies() { grep -c 'bytes from' /run/ping.log; }

if [ "$1" != after ]; then
    mounts
    uplink
    configure "slots = $slots"
    check "the initramfs makes the pool" netslot --json up
    check "and serves it" serve
    # Stands for a VMM: it holds a slot by policy on-exit and sends four packets a second for as long as it lives.
    netslot exec --no-guest --tag vmm -- ping -i 0.25 198.51.100.1 >/run/ping.log 2>&1 &
    echo $! >/run/vmm.pid
    check "its guest reaches the network" until_true grep -q 'bytes from' /run/ping.log
    check "a slot is leased for good" lease --tag kept
    check "the daemon is killed" stop KILL
    netns=$(readlink "/proc/$(cat /run/vmm.pid)/ns/net")
    echo "$netns" >/run/vmm.netns
    cp /proc/net/dev /run/devices

    mkdir /newroot
    mount -t tmpfs -o size=300m tmpfs /newroot
    cp -a /bin /sbin /lib /lib64 /usr /etc /root /var /init /lib.sh /newroot
    mkdir /newroot/dev /newroot/proc /newroot/sys /newroot/run /newroot/tmp
    case $(cat /proc/cmdline) in
        # init of initramfs-tools 0.142: moved one by one, then klibc's run-init, whose twin busybox has.
        *how=move*)
            for dir in dev sys proc run; do mount --move /$dir /newroot/$dir; done
            exec run-init -c /dev/ttyS1 /newroot /init after
            ;;
        # base_filesystem and switch_root() of systemd 252: bound with all below them, the old ones left to die.
        *how=bind*)
            for dir in dev sys proc run; do mount --rbind /$dir /newroot/$dir; done
            exec switch_root -c /dev/ttyS1 /newroot /init after
            ;;
    esac
    echo "FAIL nobody said how"
    finish
fi

before=$(replies)
check "the root is another" [ ! -e /newroot ]
check "the new root's pass adopts all and makes nothing" is "[0,$slots,0,0]" summary
check "the new daemon serves" serve
check "both leases are there" is 2 count leased
kept() { netslot list --json --tag kept | jq -c '[.[0].slot, .[0].generation]'; }
check "with slot and generation as granted" is "$(jq -c '[.slot, .generation]' /run/lease.json)" kept
more() { [ "$(replies)" -gt $((before + 4)) ]; }
check "the guest's packets go on" until_true more
# Replies that are missing up to the last one: the request that is under way when it ends is not waited for.
lost() {
    kill -INT "$(cat /run/vmm.pid)"
    until_true grep -q 'packet loss' /run/ping.log
    awk -F 'seq=' '/bytes from/ { split($2, word, " "); if (!n++) first = word[1]; last = word[1] }
        END { print last - first + 1 - n }' /run/ping.log
}
check "and none was lost" is 0 lost
freed() { [ "$(count leased)" = 1 ]; }
check "its end is noticed" until_true freed
check "what was leased before is given back" give_back
free_again() { [ "$(count free)" = $slots ]; }
check "and every slot is free" until_true free_again
check "the daemon ends when asked" stop TERM
check "destroy takes all down" netslot destroy
finish
