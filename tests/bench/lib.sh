# Sourced by the benchmark's scripts: waiting until the kernel is quiet, statistics, tables.
# shellcheck shell=bash

# Seconds to wait for namespaces to be gone: 10,000 take the kernel 20 ms each.
GONE_WAIT_S=300

# Network namespaces that there are. The kernel keeps the structures of those it has taken down until it takes down
# another (net_complete_free, called by cleanup_net, net/core/net_namespace.c, 6.18): it is given one. It also counts free
# objects that CPUs keep for themselves as used; told to shrink the cache, it gives them back.
namespaces() {
    unshare --net true
    { echo 1 >/sys/kernel/slab/net_namespace/shrink; } 2>/dev/null || true
    awk '$1 == "net_namespace" { print $2 }' /proc/slabinfo
}

# Waits until the namespaces of the run before are gone: while the kernel takes one down it holds RTNL, and whatever is
# timed then tells nothing. The margin is for free objects that the count may still hold.
wait_gone() {
    local idle=$1 began=$SECONDS
    while [ "$(namespaces)" -gt $((idle + 100)) ]; do
        if [ $((SECONDS - began)) -gt $GONE_WAIT_S ]; then
            say "NOISY: $(namespaces) namespaces are left after $GONE_WAIT_S s; the next figures are worth little"
            return
        fi
        sleep 0.5
    done
    sleep 1 # the last batch's devices and memory
}

say() {
    echo "$*" >&2
}

# Runs a command in a world of its own and waits until that world is gone. Its output is one JSON object.
in_world() {
    "$TESTS/world.sh" "$@"
    wait_gone "$IDLE_NAMESPACES"
}

heading() {
    printf '\n== %s\n' "$*"
}

# Columns from tab-separated lines.
table() {
    column -t -s $'\t' | sed 's/^/   /'
}

# jq definitions that the tables share.
# shellcheck disable=SC2034 # used by those who source this file
JQ_LIB='
def round_to($digits): . * pow(10; $digits) | round / pow(10; $digits);
def median: sort | .[length / 2 | floor];
def percentile($p): sort | .[[(length * $p / 100 | floor), (length - 1)] | min];
def phase($name): [.phases[] | select(.name == $name) | .seconds] | add // 0;
def times: round_to(2) | tostring + " x";
'
