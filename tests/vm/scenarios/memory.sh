#!/bin/sh
# A daemon in a control group that has hardly more memory than it holds, leasing all the while: it serves, or the kernel
# kills it and the next one recovers. No lease is lost, and there is none that nobody was told of.
. /lib.sh
mounts
uplink
group=/sys/fs/cgroup/daemon
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir $group
configure 'slots = 30'
check "the pool is made" netslot up

# In the group from its first page on: what a process has when it joins one stays another's.
confined() {
    echo max >$group/memory.max
    sh -c "echo \$\$ >$group/cgroup.procs; exec netslot serve" >/run/serve.log 2>&1 &
    echo $! >/run/serve.pid
    until_true netslot status >/dev/null 2>&1
}

# What was told of: a line for each lease. What was asked to end, and no answer came, may have ended or not.
ask() { netslot --json lease | jq -r '"\(.slot) \(.generation)"' >>/run/told; }
end_one() {
    one=$(head -n1 /run/told)
    [ "$one" ] || return 0
    sed -i 1d /run/told
    netslot release "${one% *}" --generation "${one#* }" || echo "$one" >>/run/ending
}
work() {
    for round in 1 2 3; do
        ask
        # Connections are memory, too.
        for place in 1 2 3 4; do netslot lease --wait 30s --tag beside --json >/run/beside.$round.$place & done
        ask
        end_one
    done
    # Not the daemon, which is this shell's child as well.
    until_true none_beside
    cat /run/beside.* | jq -r '"\(.slot) \(.generation)"' >>/run/told
    rm /run/beside.*
}
none_beside() { ! ps | grep -q '[b]eside'; }
agrees() {
    netslot list --json --state leased | jq -r '.[] | "\(.slot) \(.generation)"' | sort >/run/listed
    sort /run/told >/run/told.sorted
    lost=$(comm -23 /run/told.sorted /run/listed)
    sort /run/told /run/ending >/run/known
    untold=$(comm -13 /run/known /run/listed)
    echo "lost: $lost; untold: $untold; log: $(tail -n3 /run/serve.log)"
    [ -z "$lost$untold" ]
}
empty() { while read -r slot generation; do netslot release "$slot" --generation "$generation" || return 1; done </run/listed; }

served=0 killed=0
for more in 4096 64 -32 -96 -256; do
    : >/run/told
    : >/run/ending
    confined
    ask
    holds=$(($(cat $group/memory.current) / 1024))
    echo $(((holds + more) * 1024)) >$group/memory.max
    work 2>/dev/null
    echo max >$group/memory.max
    if gone "$(cat /run/serve.pid)"; then
        killed=$((killed + 1)) how=killed
        serve
    else
        served=$((served + 1)) how=served
    fi
    echo "measured at $holds KiB and $more more: $how, $(wc -l </run/told) leases told"
    check "with $more KiB more than it holds: $how, no lease is lost or untold" agrees
    check "and all are given back" empty
    stop TERM
done
check "it was killed" [ $killed -gt 0 ]
check "and it was served" [ $served -gt 0 ]
serve
all_free() { [ "$(count free)" = 30 ]; }
check "all slots are free again" until_true all_free
check "and as they were made" netslot verify
stop TERM
check "destroy takes all down" netslot destroy
finish
