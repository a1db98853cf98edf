#!/usr/bin/env bash
# Every test, kernel tests included; $NETSLOT names the binary that the tests of the command line run.
# Kernel tests run one after the other: namespaces being taken down stall everybody's RTNL.
set -euo pipefail
cd "$(dirname "$0")/.."

exec tests/host-knobs.sh cargo test --workspace --no-fail-fast -- --test-threads=2
