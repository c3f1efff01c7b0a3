#!/usr/bin/env bash
# Installs what tests and checks need into target/tools, once. Idempotent: what is there is skipped.
# Usage: scripts/tools.sh [test|kube|ci|fuzz]...   (default: test)
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

# The real kube-apiserver, etcd and kubectl, built from tests/kube (about six minutes, once). Each appears under its
# name only when it is whole. Without Go the tests that need them say so and are skipped, but never in CI.
install_kube() {
  local version=1.34.4
  local root="$tools/kube-$version" package name flags
  if ! command -v go >/dev/null && [ ! -x "$root/kubectl" ]; then
    echo "tools.sh: no Go 1.26 on PATH: the tests against a real kube-apiserver are skipped" >&2
    [ -z "${CI:-}" ] || exit 69
    return 0
  fi
  # Clients read the server's version and refuse one that is empty.
  flags="-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=34"
  done
  mkdir -p "$root"
  for name in etcd kube-apiserver kubectl; do
    [ ! -x "$root/$name" ] || continue
    echo "tools.sh: building $name" >&2
    (cd tests/kube && CGO_ENABLED=0 go build -trimpath -buildvcs=false -mod=readonly -ldflags "$flags" -o "$root/.$name.$$" "./$name")
    mv "$root/.$name.$$" "$root/$name"
  done
  ln -sfn "$root" "$tools/kube"
}

cargo_tool() {
  local name="$1" version="$2" root="$tools/$1-$2"
  [ -x "$root/bin/$name" ] || cargo install --quiet --locked --root "$root" "$name@$version" --target-dir "$tools/build"
  rm -rf "$tools/build"
  ln -sfn "$root/bin/$name" "$tools/$name"
}

for what in "${@:-test}"; do
  case "$what" in
    test) install_test; install_kube ;;
    kube) install_kube ;;
    ci) cargo_tool cargo-deny 0.20.2 ;;
    fuzz) cargo_tool cargo-fuzz 0.13.2 ;;
    *) echo "tools.sh: unknown: $what" >&2; exit 64 ;;
  esac
done
