.PHONY: demo test test-kills bench bench-ids bench-webhook fuzz

# Builds and runs the main job on sample data; needs no configuration and no AWS.
demo:
	cargo run --release --locked -- demo

# Installs what the tests need, and passes them.
test:
	scripts/tools.sh test
	cargo test --locked

# The kill tests with 200 kills each.
test-kills:
	scripts/tools.sh test
	PLANEWATCH_KILLS=200 cargo test --locked --test it kills::

# Speed and memory on a corpus that is made under target/.
bench:
	scripts/bench.sh

# The store with a million ids and with IDS (default 50000000).
bench-ids:
	cargo bench --locked --bench ids

# The audit webhook: time to a durable 200, and memory.
bench-webhook:
	scripts/bench-webhook.sh

# Each fuzz target for SECONDS (default 300).
fuzz:
	scripts/tools.sh fuzz
	scripts/fuzz.sh
