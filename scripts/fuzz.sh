#!/usr/bin/env bash
# Runs each fuzz target for SECONDS (default 300); seeds come from tests/data.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${SECONDS_EACH:-300}"
for target in ${TARGETS:-envelope records filter}; do
  corpus="target/fuzz-corpus/$target"
  mkdir -p "$corpus"
  case "$target" in
    records) cp tests/data/cloudtrail/*.json tests/data/kubernetes/*.json src/cli/samples/* "$corpus" ;;
    filter) grep -v '^#' tests/data/filter/cases.tsv | cut -f2 | split -l1 - "$corpus/case-" ;;
  esac
  # No sanitizer: this crate has no unsafe code; what is looked for are panics, hangs and broken promises.
  RUSTUP_TOOLCHAIN=nightly target/tools/cargo-fuzz run --sanitizer none --target-dir target/fuzz "$target" "$corpus" -- -max_total_time="$seconds" -max_len=8192 -print_final_stats=1
done
