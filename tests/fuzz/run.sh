#!/usr/bin/env bash
# Fuzzes each target, or those named, for so many seconds: tests/fuzz/run.sh [SECONDS [TARGET…]]. Stable Rust will do: the
# instrumentation is LLVM's own pass, and the code under test is safe, so that panics and overflows are all there is to
# find. Begins with the inputs that the everyday tests begin with; what was found is kept below tests/fuzz/corpus. A finding
# ends it with 1, and with the command that brings it about again. SEED=n walks the same way each time, as far as the time
# lasts; without it each run walks another.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(frame body netlink rules image config ledger trace)

corpus=$PWD/corpus
(cd ../.. && CORPUS=$corpus cargo test --quiet --test mutations) >/dev/null

level='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
counters='-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
export RUSTFLAGS="$level $counters -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
# An explicit target keeps the flags away from build scripts and proc macros.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --locked --release --target "$host" "${targets[@]/#/--bin=}"
built=${CARGO_TARGET_DIR:-$PWD/target}/$host/release

for target in "${targets[@]}"; do
    mkdir -p "$corpus/$target"
    echo "== $target, $seconds s"
    log=$corpus/$target.log
    if ! "$built/$target" -seed="${SEED:-0}" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -max_len=8192 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$corpus/$target-" "$corpus/$target" >"$log" 2>&1; then
        cat "$log" >&2
        artifact=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "fuzz: $target has failed; its input: ${artifact:-none was written}; again: $built/$target $artifact" >&2
        exit 1
    fi
    grep -E 'number_of_executed|new_units|peak_rss' "$log" || true # how much it did, for people
done
