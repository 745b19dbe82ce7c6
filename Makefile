# The two commands of the README: `make demo` and `make test`. Everything they need they install.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests wait for servers a quarter of their time; a file's tests stay together (tests/conftest.py).
PROCESSES ?= $(shell echo $$(( $$(nproc) * 3 / 2 )))
SHARED_OUT = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo servers check test test-all bench reference lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## the virtual environment, from the lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Watertight needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
		{ rm -rf $(VENV); if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get -qq update && apt-get -qq install -y python3-venv && $(PYTHON) -m venv $(VENV); \
		  else echo "$(PYTHON) cannot make virtual environments. Install them: apt-get install python3-venv" >&2; exit 3; fi; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src # each command would else compile what it may not write
	@touch $@

demo: $(READY) ## the shop, sealed, attacked and proven; KEEP=1 leaves it running, FULL=1 adds RabbitMQ
	@$(if $(FULL),bash tools/servers.sh)
	$(BIN)/python examples/shop/demo.py $(if $(KEEP),--keep) $(if $(FULL),--full)

servers: ## the databases and brokers of the tests, from Debian, if root says so
	@bash tools/servers.sh

check: $(READY) ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check servers ## every gate and every test but the exhaustive ones
	$(BIN)/pytest -m "not slow" $(SHARED_OUT)

test-all: check servers ## also the exhaustive ones
	$(BIN)/pytest $(SHARED_OUT)

bench: $(READY) ## speed, as ratios in one run; writes docs/performance.md
	$(BIN)/python -m bench.run

reference: $(READY) ## docs/reference from the code
	$(BIN)/python tools/reference.py

lock: ## resolve the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
		--extra postgresql --extra nats --extra rabbitmq --group examples --group servers --group test --group check pyproject.toml -o requirements.lock

clean: ## what `make` made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks bench/results
