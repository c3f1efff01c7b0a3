#!/usr/bin/env bash
# The audit webhook under load: how long a 400-event EventList takes to its durable 200, and memory at a steady rate.
# EVENTS_PER_SECOND (default 4000: what one API server can send) and SECONDS_EACH (default 20) say how much.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked --bench webhook
