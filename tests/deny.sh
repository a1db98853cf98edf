#!/usr/bin/env bash
# Licences, duplicates and sources of the dependencies, by deny.toml. Advisories need a database from the network:
# they are checked where it can be had, and said aloud where not.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    if [ -z "${CI:-}" ]; then
        echo "SKIPPED: cargo-deny is not installed: cargo install --locked cargo-deny" >&2
        exit 0
    fi
    cargo install --locked --quiet cargo-deny
fi

cargo deny --all-features check bans licenses sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --all-features check --disable-fetch advisories
else
    echo "SKIPPED: the advisory database cannot be fetched here" >&2
fi
