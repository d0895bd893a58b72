# Two commands: `make demo` shows it working, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint types imports pytest bench soak clean

setup: .venv/ready

.venv/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Gridwhistle needs Python 3.11 or newer / 需要 Python 3.11 以上") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv/ready

demo: setup
	$(BIN)/gridwhistle demo

test: lint types imports pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

pytest: setup
	$(BIN)/pytest -n 3 --dist worksteal

# Half an hour on a machine that does nothing else; writes the page about performance with its numbers and plots.
MEASURED := build/bench
bench: setup
	@mkdir -p $(MEASURED)
	$(BIN)/python -m benchmarks.ingest --json --compare > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/ingest.json
	$(BIN)/python -m benchmarks.ledger --json > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/ledger.json
	$(BIN)/python -m benchmarks.latency --json > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/latency.json
	$(BIN)/python -m benchmarks.store --json > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/store.json
	$(BIN)/python -m benchmarks.rules --json > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/rules.json
	$(BIN)/python -m benchmarks.memory --json > $(MEASURED)/new && mv $(MEASURED)/new $(MEASURED)/memory.json
	$(BIN)/python -m benchmarks.report $(MEASURED)

# The faults of tests/crash as long as they are meant to last, and Hypothesis looking for new examples: hours.
soak: setup
	GRIDWHISTLE_SOAK=1 $(BIN)/pytest tests/crash tests/rules tests/alerts tests/devices tests/ingest tests/flow tests/store

clean:
	rm -rf .venv build
