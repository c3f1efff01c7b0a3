#!/usr/bin/env bash
# Installs what the tests need into target/tools, once. Idempotent: what is there is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${PLANEWATCH_TOOLS:-$PWD/target/tools}"
mkdir -p "$tools"

venv="$tools/aws-ministack-1.5.33-microburst-0.10.0"
if [ ! -e "$venv/ready" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet ministack==1.5.33 microburst==0.10.0
  touch "$venv/ready"
fi
ln -sfn "$venv" "$tools/aws"
