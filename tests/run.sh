#!/usr/bin/env bash
# Every test, kernel tests included; $NETSLOT names the binary that the tests of the command line run.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/knobs.sh
. tests/knobs.sh
knobs_turn
# Kernel tests take turns by themselves: namespaces being taken down stall everybody's RTNL.
cargo test --workspace --no-fail-fast
