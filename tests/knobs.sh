# Sourced. The host's knobs that `netslot up` turns for a pass, for callers who run it in a network namespace of their
# own: two of them exist in the initial one only, so they are turned from here, and turned back whatever happens.
# shellcheck shell=bash

# Of the initial network namespace only: new namespaces take their sysctls from their maker's; fallback tunnels stay out.
KNOBS_INITIAL=(net/core/devconf_inherit_init_net=3 net/core/fb_tunnels_only_for_init_net=1)
# Global: turned by whoever makes slots, for as long as it does; here only remembered, to be set back after a kill.
KNOBS_GLOBAL=(/sys/kernel/rcu_expedited /proc/sys/kernel/printk)

# Two that turned the same knobs at once would each remember, and set back, what the other had turned: one at a time.
KNOBS_LOCK=/run/netslot-knobs.lock

declare -A knobs_old=()
knobs_reach=()

# Finds a way to the initial network namespace: none needed, or that of process 1.
knobs_find_reach() {
    local probe=/proc/sys/${KNOBS_INITIAL[0]%%=*}
    if [ -w "$probe" ]; then
        knobs_reach=(env)
    elif nsenter --target 1 --net test -w "$probe" 2>/dev/null; then
        knobs_reach=(nsenter --target 1 --net)
    else
        return 1
    fi
}

# Turns the knobs, and remembers what they were. Says aloud what cannot be turned, and goes on: all works without.
knobs_turn() {
    local knob path
    [ "$(id -u)" -eq 0 ] || return 0 # who may not make a namespace has no use for them
    exec {knobs_lock}>"$KNOBS_LOCK"
    if ! flock --nonblock $knobs_lock; then
        echo "note: another demo, test or benchmark runs on this machine; waiting for its end" >&2
        flock $knobs_lock
    fi
    for path in "${KNOBS_GLOBAL[@]}"; do
        knobs_old[$path]=$(cat "$path")
    done
    trap knobs_restore EXIT
    # A shell that dies of a signal runs its EXIT trap only where the signal is trapped.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if ! knobs_find_reach; then
        echo "note: net.core.devconf_inherit_init_net is out of reach from this network namespace;" \
            "each slot's sysctls will be written one by one, which takes longer the more slots there are" >&2
        return
    fi
    for knob in "${KNOBS_INITIAL[@]}"; do
        path=/proc/sys/${knob%%=*}
        knobs_old[$path]=$("${knobs_reach[@]}" cat "$path")
        "${knobs_reach[@]}" tee "$path" <<<"${knob#*=}" >/dev/null
    done
}

# Sets back what knobs_turn found.
knobs_restore() {
    local path
    for path in "${!knobs_old[@]}"; do
        case $path in
            /proc/sys/net/*) "${knobs_reach[@]}" tee "$path" <<<"${knobs_old[$path]}" >/dev/null ;;
            *) echo "${knobs_old[$path]}" >"$path" ;;
        esac
    done
    knobs_old=()
    # Also for children that still hold the file.
    flock --unlock $knobs_lock
}
