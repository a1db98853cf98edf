#!/usr/bin/env bash
# Fuzzes each target, or those named, for so many seconds: tests/fuzz/run.sh [SECONDS [TARGET…]]. Stable Rust will do: the
# instrumentation is LLVM's own pass, and the code under test is safe, so that panics and overflows are all there is to
# find. Begins with the inputs that the everyday tests begin with; what was found is kept below tests/fuzz/corpus.
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
cargo build --quiet --release --target "$host"

for target in "${targets[@]}"; do
    mkdir -p "$corpus/$target"
    echo "== $target, $seconds s"
    "target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$corpus/$target-" "$corpus/$target" 2>&1 |
        grep -E 'ERROR|panicked|SUMMARY|number_of_executed|new_units|peak_rss|artifact' || true
done
