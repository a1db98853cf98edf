#!/usr/bin/env bash
# Every test, kernel tests included; $NETSLOT names the binary that the tests of the command line run.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/knobs.sh
. tests/knobs.sh
knobs_turn
# Not asked of everybody who wants the demo, as the other tools are. Without them those tests say so, and fail in CI.
if ! tests/tools.sh vm; then
    echo "SKIPPED: without QEMU there are no virtual machines" >&2
fi
# Kernel tests take turns by themselves: namespaces being taken down stall everybody's RTNL.
cargo test --workspace --no-fail-fast
