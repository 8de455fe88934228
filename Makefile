# What people type. Each target says what it does; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup check test demo simulate soak bench lock

help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(STAMP) ## Make .venv with everything in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed: install it, or call make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "setup 1/3: making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "setup 2/3: installing the locked packages (about 250 MB, once)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on \
	  --require-hashes -r requirements.lock
	@echo "setup 3/3: installing syncline itself"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $(STAMP)
	@echo "setup done: $(BIN)/syncline --help"

check: setup ## Style, types and the import rule
	@echo "check 1/4: ruff check";  $(BIN)/ruff check .
	@echo "check 2/4: ruff format"; $(BIN)/ruff format --check .
	@echo "check 3/4: pyright";     $(BIN)/pyright
	@echo "check 4/4: imports";     $(BIN)/lint-imports

test: setup ## All tests, on real Kafka
	$(PYTEST) -m "not soak"

demo: setup ## The main job with simulated platforms, crashes and a report
	$(BIN)/syncline demo $(ARGS)

simulate: setup ## Seeded simulation: SEED=n, or SEEDS=from-to
	$(BIN)/python -m tests.simulation $(or $(SEED),$(SEEDS),0-199)

soak: setup ## Long matrices, by hand
	$(PYTEST) -m soak

bench: setup ## Benchmarks against alternatives
	$(BIN)/python -m benchmarks

lock: setup ## Resolve requirements.lock anew
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --upgrade --quiet -o requirements.lock
