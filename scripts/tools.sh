#!/usr/bin/env bash
# Installs what tests and checks need into target/tools, once. Idempotent: what is there is skipped.
# Usage: scripts/tools.sh [test|ci|fuzz]...   (default: test)
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${PLANEWATCH_TOOLS:-$PWD/target/tools}"
mkdir -p "$tools"

# The AWS emulator and the fault proxy before it, in a virtual environment of their own.
install_test() {
  local venv="$tools/aws-ministack-1.5.33-microburst-0.10.0"
  if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet ministack==1.5.33 microburst==0.10.0
    touch "$venv/ready"
  fi
  ln -sfn "$venv" "$tools/aws"
}

cargo_tool() {
  local name="$1" version="$2" root="$tools/$1-$2"
  [ -x "$root/bin/$name" ] || cargo install --quiet --locked --root "$root" "$name@$version" --target-dir "$tools/build"
  rm -rf "$tools/build"
  ln -sfn "$root/bin/$name" "$tools/$name"
}

for what in "${@:-test}"; do
  case "$what" in
    test) install_test ;;
    ci) cargo_tool cargo-deny 0.20.2 ;;
    fuzz) cargo_tool cargo-fuzz 0.13.2 ;;
    *) echo "tools.sh: unknown: $what" >&2; exit 64 ;;
  esac
done
