#!/bin/bash
# The benchmark: prints one table per subject, and leaves the figures as JSON lines in target/bench/.
#
#     NETSLOT=path/to/netslot tests/bench/run.sh [SUBJECT…]
#
# Subjects: up boot many peers lease recovery rules scrub packets; all, where none is named.
#
# As root, on a machine that does nothing else. Every comparison is a ratio of runs that took turns in this very run;
# each run waits until the namespaces of the one before it are gone. That wait is most of the quarter of an hour it takes:
# the kernel needs 20 ms for each slot's bridge, an rcu_barrier under RTNL (br_multicast_dev_del). Smaller with:
#
#     NETSLOT_BENCH_SLOTS  slots of the large runs (4000)
#     NETSLOT_BENCH_MANY   slots of the run that looks for growth (10000)
#     NETSLOT_BENCH_PEERS  slots of the runs beside other tools ("40 400")
#     NETSLOT_BENCH_PAIRS  pairs of netslot and yardstick with all slots (1); with a quarter of them there are 3 more
#     NETSLOT_BENCH_BOOT   slots of the runs to READY ("200 1000")
#     NETSLOT_BENCH_ROUNDS leases that are timed (2000; at most half of the slots are out at once)
set -euo pipefail
BENCH=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
TESTS=${BENCH%/*}
. "$TESTS/knobs.sh"
. "$BENCH/lib.sh"

SLOTS=${NETSLOT_BENCH_SLOTS:-4000}
MANY=${NETSLOT_BENCH_MANY:-10000}
PEERS=${NETSLOT_BENCH_PEERS:-40 400}
PAIRS=${NETSLOT_BENCH_PAIRS:-1}
ROUNDS=${NETSLOT_BENCH_ROUNDS:-2000}
BOOT=${NETSLOT_BENCH_BOOT:-200 1000}
THREADS=2 # netslot's default

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export BENCH TESTS NETSLOT

main() {
    local subjects=("$@")
    [ ${#subjects[@]} -gt 0 ] || subjects=(up boot many peers lease recovery rules scrub packets)
    [ "$(id -u)" -eq 0 ] || fail "it makes network namespaces: run it as root"
    [ -x "${NETSLOT:-}" ] || fail "NETSLOT must be the path of a netslot binary; 'make bench' builds one"
    NETSLOT=$(realpath "$NETSLOT")
    build
    IDLE_NAMESPACES=$(namespaces)
    export IDLE_NAMESPACES
    knobs_turn
    about
    "$TESTS/world.sh" "$BENCH/same.sh" | sed 's/^/   /'
    wait_gone "$IDLE_NAMESPACES"
    for subject in "${subjects[@]}"; do
        "bench_$subject"
    done
    printf '\nfigures: %s\n' "$OUT"
}

fail() {
    say "bench: $*"
    exit 1
}

# The programs that the measuring needs besides netslot, and a directory for the figures.
build() {
    local root=${TESTS%/*} target
    target=$(uname -m)-unknown-linux-gnu
    OUT=$root/target/bench/$(date +%Y%m%dT%H%M%S)
    mkdir -p "$OUT"
    BASELINE=$root/target/bench/baseline
    ENTER=$root/target/bench/enter
    cc -O2 -pthread -o "$BASELINE" "$BENCH/baseline.c"
    cc -O2 -o "$ENTER" "$BENCH/enter.c"
    WARM=$root/target/bench/warm
    cc -O2 -o "$WARM" "$BENCH/warm.c"
    CONNECT=$root/target/bench/connect
    cc -O2 -o "$CONNECT" "$BENCH/connect.c"
    say "building the clients"
    # As the Makefile builds netslot, so that they share what is built already.
    bench() {
        (cd "$root" && RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
            cargo build --quiet --release --target "$target" --bench "$1" --message-format json) |
            jq --raw-output --arg name "$1" 'select(.target.name? == $name) | .executable // empty'
    }
    LEASE=$(bench lease)
    PACKETS=$(bench packets)
    export BASELINE CONNECT ENTER LEASE PACKETS OUT WARM
}

about() {
    heading "netslot $("$NETSLOT" --version | cut -d' ' -f2), $(date --iso-8601=minutes)"
    {
        printf 'kernel\t%s\n' "$(uname -sr)"
        printf 'CPUs\t%s online, %s possible: %s\n' "$(nproc --all)" "$(cat /sys/devices/system/cpu/possible)" \
            "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
        printf 'memory\t%s MiB available\n' "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)"
        printf 'load\t%s; more than 0.5 before the start makes noise\n' "$(cut -d' ' -f1 /proc/loadavg)"
        printf 'binary\t%s bytes\n' "$(stat --format=%s "$NETSLOT")"
    } | table
}

# pair FILE SLOTS THREADS ORDER: one run each of netslot and the yardstick, appended as one JSON array.
pair() {
    local file=$1 slots=$2 threads=$3 order=$4 who
    local -A result
    for who in $order; do
        say "$who: $slots slots on $threads threads"
        result[$who]=$(in_world "$BENCH/once.sh" "$who" "$slots" "$threads")
    done
    jq --null-input --compact-output --argjson netslot "${result[netslot]}" --argjson baseline "${result[baseline]}" \
        '{netslot: $netslot, baseline: $baseline}' >>"$file"
}

bench_up() {
    local file=$OUT/up.jsonl n threads cold
    for ((n = 0; n < PAIRS; n++)); do
        pair "$file" "$SLOTS" $THREADS "$( ((n % 2)) && echo baseline netslot || echo netslot baseline)"
    done
    for threads in 1 2 4; do
        pair "$file" $((SLOTS / 4)) $threads "baseline netslot"
    done

    say "netslot: $SLOTS slots, memory as it is"
    cold=$(COLD=1 in_world "$BENCH/once.sh" netslot "$SLOTS" $THREADS)

    heading "up, seconds; beside the yardstick (baseline.c: the same objects in straight-line C)"
    {
        printf 'slots\tthreads\tnetslot\tyardstick\tratio\tmake\traise\thost\tsettle\trest\tlast/first\tyardstick make\traise\thost\tlast/first\n'
        jq --raw-output "$JQ_LIB"'
            def growth: .slot_us | if .first_500_p50 > 0 then .last_500_p50 / .first_500_p50 | round_to(2) else 0 end;
            [.netslot.slots, .netslot.threads, (.netslot.wall | round_to(2)), (.baseline.wall | round_to(2)),
             (.netslot.wall / .baseline.wall | round_to(2)),
             (.netslot | phase("make"), phase("raise"), phase("host"), phase("settle"),
                 (.wall - ([.phases[].seconds] | add)) | round_to(2)), (.netslot | growth),
             (.baseline | phase("make"), phase("raise"), phase("host") | round_to(2)), (.baseline | growth)]
            | @tsv' "$file"
    } | table
    jq --raw-output --slurp --argjson slots "$SLOTS" "$JQ_LIB"'
        map(select(.netslot.slots == $slots))
        | "   median of \(length) pairs of \($slots) slots: netslot \(map(.netslot.wall) | median | round_to(2)) s,"
          + " \(map(.netslot.wall / .netslot.slots * 1e6) | median | round) µs per slot,"
          + " \(map(.netslot.wall / .baseline.wall) | median | times) the yardstick (aim: at most 1.15 x)"' "$file"
    jq --raw-output "$JQ_LIB"'
        "   with memory as it is, touched before or not: \(.wall | round_to(2)) s"' <<<"$cold"
}

bench_boot() {
    local file=$OUT/boot.jsonl slots
    for slots in $BOOT; do
        say "from nothing to READY: $slots slots"
        in_world "$BENCH/boot.sh" "$slots" >>"$file"
    done
    heading "from nothing to READY, seconds: up, then serve --up, as the units do it"
    jq --raw-output "$JQ_LIB"'"   \(.slots) slots: \(.ready | round_to(2)) (up \(.up | round_to(2)), serve \(.serve | round_to(3)))"' "$file"
}

bench_many() {
    local file=$OUT/many.jsonl
    say "netslot: $MANY slots on $THREADS threads"
    in_world "$BENCH/once.sh" netslot "$MANY" $THREADS >"$file"
    heading "up: $MANY slots, does a slot cost more the more there are?"
    jq --raw-output "$JQ_LIB"'
        "   \(.wall | round_to(2)) s in all: " + (.phases | map("\(.name) \(.seconds | round_to(2))") | join(", ")),
        "   last 500 / first 500: \(.slot_us.last_500_p50 / .slot_us.first_500_p50 | times) (aim: at most 1.3 x)",
        "   µs to make a slot, p50 of each thousand: \(.slot_us.per_thousand_p50 | map(tostring) | join(" "))",
        "   destroy: \(.destroy_seconds | round_to(2)) s"' "$file"
}

bench_peers() {
    local file=$OUT/peers.jsonl slots who ours theirs
    for slots in $PEERS; do
        for who in batch cni netavark; do
            say "$slots slots: netslot, then $who"
            ours=$(in_world "$BENCH/once.sh" netslot "$slots" $THREADS)
            theirs=$(in_world "$BENCH/peers.sh" "$who" "$slots")
            jq --null-input --compact-output --argjson netslot "$ours" --argjson peer "$theirs" \
                '{netslot: $netslot, peer: $peer}' >>"$file"
        done
    done
    heading "up beside other tools, each pair run one after the other"
    {
        printf 'slots\tpeer\tms per slot\tp50\tp95\tnetslot ms per slot\tpeer / netslot\n'
        jq --raw-output "$JQ_LIB"'
            (.peer.seconds * 1000 / .peer.slots) as $theirs | (.netslot.wall * 1000 / .netslot.slots) as $ours
            | [.peer.slots, .peer.who, ($theirs | round_to(2)),
               (.peer.slot_ms | percentile(50), percentile(95) | round_to(2)), ($ours | round_to(2)),
               ($theirs / $ours | round_to(1) | tostring + " x")] | @tsv' "$file"
    } | table
    cat <<'SLOTS'
   What a slot holds:
   netslot   namespace, quiet bridge with gateway address, tap on it, veth pair made in place, slot address, default
             route, permanent neighbours, host route; checked for carriers at the end
   batch     the same, but for the tap's index; two `ip -batch` processes per slot
   cni       namespace, veth pair on one bridge in the host, address and default route; no tap, no bridge in the slot
             (Debian's containernetworking-plugins: bridge with host-local, no masquerading)
   netavark  as cni, and its firewall's rules, which cannot be switched off
SLOTS
}

bench_lease() {
    local file=$OUT/lease.jsonl
    local rounds=$((ROUNDS < SLOTS / 2 ? ROUNDS : SLOTS / 2))
    say "lease: $SLOTS slots, $rounds rounds"
    in_world "$BENCH/serve.sh" "$SLOTS" "$rounds" $((SLOTS / 2)) >"$file"
    heading "lease and release: one round trip each, µs; beside an empty SEQPACKET echo of the same sizes, in turns"
    {
        printf 'while\trounds\tlease p50\tp99\trelease p50\tp99\tboth p50\tp99\techo p50\tp99\tratio p50\tp99\tempty\n'
        jq --raw-output "$JQ_LIB"'
            select(.rounds > 0) | [{"idle": "idle", "idle-paced": "idle, one per 2 ms", "idle-netns": "idle, with netns fd",
                "building": "another pool is built"}[.what], .rounds,
                (.netslot.lease, .netslot.release, .netslot.both, .echo.both
                 | .p50_us, .p99_us | round_to(1)), (.ratio_p50, .ratio_p99 | times), .pool_empty] | @tsv' "$file"
    } | table
    jq --raw-output --slurp '
        map(select(.bytes))[0].bytes
        | "   bytes: lease \(.lease[0]) out, \(.lease[1]) back; release \(.release[0]) out, \(.release[1]) back",
          "   aim: p50 at most 1.5 x, p99 at most 3 x"' "$file"
    if jq --exit-status 'select(.what == "building" and .rounds == 0)' "$file" >/dev/null; then
        echo "   building: over before the first round that counts; use more slots"
    fi
    heading "leases per second, $SLOTS slots"
    {
        printf 'clients\tleases\tleases per s\treleases per s\tlease + release per s, each slot scrubbed between\n'
        jq --raw-output 'select(.what == "throughput") | [.clients, .leases, (.leases_per_second, .releases_per_second,
            .cycles_per_second | round)] | @tsv' "$file"
    } | table
    heading "memory, $SLOTS slots"
    {
        jq --raw-output "$JQ_LIB"'
            if .what == "kernel-memory" then
                ["kernel, per slot", "\(.available_kib_per_slot | round) KiB less available; of that slab " +
                 "\(.slab_kib_per_slot | round) KiB, per-CPU \(.percpu_kib_per_slot | round_to(1)) KiB"]
            elif .what == "rss-idle" then ["daemon, before its first lease", "\(.rss_kib) KiB resident, \(.anon_kib) of it its own"]
            elif .what == "rss-after" then ["daemon, after the leases", "\(.rss_kib) KiB resident, \(.anon_kib) of it its own"]
            else empty end | @tsv' "$file"
        printf 'binary\t%s bytes (aim: at most 3 MB)\n' "$(stat --format=%s "$NETSLOT")"
    } | table
}

bench_recovery() {
    local file=$OUT/recovery.jsonl
    say "recovery: $SLOTS slots"
    in_world "$BENCH/recovery.sh" "$SLOTS" >"$file"
    heading "recovery: from the start of a killed daemon's successor to its first answer, ms"
    {
        printf 'slots\tleases\tstarts\tp50\tmost\n'
        jq --raw-output "$JQ_LIB"'select(.what == "recovery")
            | [.slots, .leases, .rounds, (.p50_ms, .most_ms | round_to(1))] | @tsv' "$file"
    } | table
    jq --raw-output 'select(.what == "verify")
        | "   afterwards: \(.equal) slots as they were made, \(.differ) not (aim: 100 ms with 4,000 slots)"' "$file"
}

bench_rules() {
    local file=$OUT/rules.jsonl
    say "rules: $SLOTS slots"
    in_world "$BENCH/rules.sh" "$SLOTS" >"$file"
    heading "rules: the slot's set of systemd/slot.nft, µs per slot"
    {
        printf 'slots\tobjects\tto make a slot without\twith\tto replace them\tby nft -f\tnft / replace\n'
        jq --raw-output "$JQ_LIB"'select(.what == "slot") | [.slots, .objects, .make_us_without, .make_us_with,
            .replace_us, .nft_us, (.nft_us / .replace_us | times)] | @tsv' "$file"
    } | table
    heading "rules of the host"
    {
        printf 'slots\trules\n'
        jq --raw-output 'select(.what == "host") | [.slots, .rules] | @tsv' "$file"
    } | table
    heading "a TCP connection from a slot to beyond the uplink, µs; 30 rules per slot"
    {
        printf 'rules\tthrough slot\trules of the host\tp50\tp99\n'
        jq --raw-output 'select(.what == "connect") | [.how, .slot, .host_rules, .p50_us, .p99_us] | @tsv' "$file"
    } | table
}

bench_scrub() {
    local file=$OUT/scrub.jsonl
    local leases=$((ROUNDS < SLOTS / 2 ? ROUNDS : SLOTS / 2))
    say "scrub: $SLOTS slots, $leases leases"
    in_world "$BENCH/scrub.sh" "$SLOTS" "$leases" >"$file"
    heading "scrub: a lease's round trip, µs, alone and while another client gives slots back, each scrubbed and proven clean"
    {
        printf 'slots\trules\talone p50\tp99\twith p50\tp99\treleases per s\tmost behind\tdrained s\tdaemon CPU µs per release\tmost per s\n'
        jq --raw-output "$JQ_LIB"'
            select(.rate) | [.slots, .what, (.without, .with | .p50_us, .p99_us | round_to(1)),
                (.releases_per_second | round), .backlog_most, (.drained_s | round_to(2)),
                (.daemon_cpu_us_per_release | round), (.most_per_second | round)] | @tsv' "$file"
    } | table
    jq --raw-output 'select(.what == "verify")
        | "   afterwards: \(.equal) slots as they were made, \(.differ) not (aim: 500 releases per s, none behind)"' "$file"
}

bench_packets() {
    local file=$OUT/packets.jsonl
    say "packets: programs, paths, attaching"
    "$PACKETS" programs >"$file"
    "$PACKETS" paths >>"$file"
    "$PACKETS" attach --slots 100 >>"$file"
    wait_gone "$IDLE_NAMESPACES"
    say "packets: $SLOTS slots"
    in_world "$BENCH/packets.sh" "$SLOTS" 10000 >>"$file"
    heading "a program on one packet of 106 bytes, ns (BPF_PROG_TEST_RUN); the first row is what the timing takes"
    {
        printf 'program\tpacket\tp50\tp99\n'
        jq --raw-output 'select(.what == "program") | [.program, .packet, .p50_ns, .p99_ns] | @tsv' "$file"
    } | table
    heading "a guest to the network: by the programs, and by masquerading in the slot and at the uplink, in turns"
    {
        printf 'way\tturns\tround trip p50 µs\tp99\tout Gbit/s\tin\tof masquerading: trip\tout\tin\ttracked on the host\n'
        jq --raw-output --slurp "$JQ_LIB"'
            map(select(.what == "path")) | group_by(.way)
            | map({key: .[0].way, value: {n: length, rtt: map(.rtt_p50_us) | median, p99: map(.rtt_p99_us) | median,
                out: map(.out_gbit) | median, back: map(.in_gbit) | median, tracked: map(.tracked_on_host) | max}})
            | from_entries as $ways | $ways["masquerade twice"] as $old | $ways | to_entries[] | .value as $way
            | [.key, $way.n, ($way.rtt, $way.p99, $way.out, $way.back | round_to(1)), ($way.rtt / $old.rtt | times),
               ($way.out / $old.out | times), ($way.back / $old.back | times), $way.tracked] | @tsv' "$file"
    } | table
    jq --raw-output "$JQ_LIB"'
        select(.what == "attach") | "   attach: a host end joins the blocks in \(.join_us | round_to(1)) µs (aim: at most 30); the programs on all of them at once "
            + "\(.programs_once_us | round) µs; a tap'"'"'s program \(.tap_us | round) µs, in the slot'"'"'s own namespace"' "$file"
    jq --raw-output "$JQ_LIB"'
        select(.what == "ends") | "   round trip through slot \(.slots[0]) and slot \(.slots[1]): \(.first_p50_us | round_to(1)) and "
            + "\(.last_p50_us | round_to(1)) µs, \(.ratio_p50 | times) (aim: at most 1.02 x)"' "$file"
    jq --raw-output "$JQ_LIB"'
        select(.what == "bind") | "   bind: reply after p50 \(.reply_p50_us | round_to(1)) µs, p99 \(.reply_p99_us | round_to(1)); first packet with the real VNI at the far end after "
            + "p50 \(.packet_p50_us | round_to(1)) µs, p99 \(.packet_p99_us | round_to(1)) (AWS: 200 µs)"' "$file"
}

main "$@"
