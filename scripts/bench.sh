#!/usr/bin/env bash
# Speed and memory of replay, run and search, on corpora that are made under target/ (once).
# EVENTS (default 500000), AUDIT_EVENTS (200000) and SEARCH_EVENTS ("1000000 10000000") say how large; AWS=0 leaves out the run
# against the emulator. The large search takes ten minutes and 6 GB the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
events="${EVENTS:-500000}"
search_sizes="${SEARCH_EVENTS:-1000000 10000000}"
audit_events="${AUDIT_EVENTS:-200000}"
synth=../shared/tools/synth.py
[ -e "$synth" ] || { echo "bench.sh: needs $synth to make its corpus" >&2; exit 64; }
cargo build --release --locked
pw="$PWD/target/release/planewatch"
corpus="target/corpus/cloudtrail-$events"
[ -e "$corpus/manifest.tsv" ] || python3 "$synth" cloudtrail --out "$corpus" --events "$events"

# measure NAME EVENTS COMMAND…: CPU seconds, events per CPU second, peak memory.
measure() {
  local name="$1" n="$2"; shift 2
  /usr/bin/time -o target/bench.time -f '%U %S %e %M' "$@" > target/bench.out 2> target/bench.err
  awk -v name="$name" -v n="$n" '{ cpu = $1 + $2; printf "%-34s %7.2f CPU s  %7.2f s  %8.0f events/CPU s  %6.1f MiB\n", name, cpu, $3, (n > 0 ? n / cpu : 0), $4 / 1024 }' target/bench.time
}

total=$(find "$corpus/AWSLogs" -name '*.json.gz' -print0 | xargs -0 zcat | LC_ALL=C tr ',' '\n' | LC_ALL=C grep -c '"eventVersion"')
echo "corpus: $total events"
measure "gzip -dc (the yardstick)" "$total" sh -c "find $corpus/AWSLogs -name '*.json.gz' -print0 | xargs -0 gzip -dc > /dev/null"
measure "replay" "$total" sh -c "exec $pw replay $corpus/AWSLogs > /dev/null"

audit="target/corpus/audit-$audit_events.ndjson"
[ -e "$audit" ] || { python3 "$synth" k8s --out "$audit.new" --events "$audit_events" > /dev/null; mv "$audit.new" "$audit"; }
measure "replay of audit NDJSON" "$audit_events" sh -c "exec $pw replay $audit --cluster bench > /dev/null"

data="target/bench-data-$events"
rm -rf "$data"
printf '{"data_dir": "%s", "sources": [{"type": "directory", "name": "bench", "path": "%s"}]}' "$data" "$corpus/AWSLogs" > target/bench.yaml
measure "run --drain of the folder" "$total" "$pw" run -c target/bench.yaml --drain --output json
cat target/bench.out

huge="target/corpus/huge.json.gz"
if [ ! -e "$huge" ]; then
  python3 - "$corpus" "$huge" <<'PY'
import gzip, json, pathlib, sys
written = 0
with gzip.open(sys.argv[2], "wb", compresslevel=1) as out:
    out.write(b'{"Records":[')
    first = True
    while written < 1 << 30:
        for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.json.gz")):
            text = gzip.open(path).read()
            inner = text[text.index(b"[") + 1:text.rindex(b"]")]
            if not inner: continue
            out.write((b"" if first else b",") + inner)
            first = False
            written += len(inner)
            if written >= 1 << 30: break
    out.write(b"]}")
PY
fi
measure "replay of one object of 1 GiB" 0 sh -c "exec $pw replay $huge > /dev/null"
mkdir -p target/corpus/huge && ln -f "$huge" target/corpus/huge/huge.json.gz
rm -rf target/bench-data-huge
printf '{"data_dir": "target/bench-data-huge", "sources": [{"type": "directory", "name": "bench", "path": "target/corpus/huge"}]}' > target/bench.yaml
measure "run --drain of it" 0 "$pw" run -c target/bench.yaml --drain --output json
cat target/bench.out

if [ "${AWS:-1}" = 1 ]; then
  scripts/tools.sh test
  CORPUS="$corpus/AWSLogs" cargo bench --locked --bench queue 2> /dev/null
fi

# search_in EVENTS: a store of so many events, made once, and searches over it.
search_in() {
  local n="$1" data="target/bench-data-search-$1" corpus="target/corpus/cloudtrail-$1" filter
  if [ ! -e "$data/ready" ]; then
    [ -e "$corpus/manifest.tsv" ] || python3 "$synth" cloudtrail --out "$corpus" --events "$n" --seed 2
    rm -rf "$data"
    printf '{"data_dir": "%s", "sources": [{"type": "directory", "name": "bench", "path": "%s"}]}' "$data" "$corpus/AWSLogs" > target/bench.yaml
    "$pw" run -c target/bench.yaml --drain > /dev/null
    touch "$data/ready"
  fi
  echo "search over $n events:"
  for filter in 'action = "Decrypt"' 'eventName = "GetObject"' 'user = "nobody-at-all"' 'ip = "203.0.113.254"' 'eventName = "StopLogging"' 'raw like "no such text anywhere"'; do
    measure "  $filter" 0 "$pw" search "$filter" --data-dir "$data" --limit 50 --output json
  done
}
for n in $search_sizes; do search_in "$n"; done
