# What people type. Each target says what it does; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest

# pip's own words, counted: one line that moves in a terminal, a line now and then in a log.
define COUNTED
  { n=0; all=$$(grep -c '^[a-z].*==' requirements.lock); \
    while read -r word rest; do case "$$word" in \
      Collecting) n=$$((n + 1)); \
        if [ -t 1 ]; then printf '\r  downloading %d of about %d ' $$n $$all; \
        elif [ $$((n % 25)) = 0 ]; then echo "  downloading $$n of about $$all"; fi;; \
      Installing) [ ! -t 1 ] || echo; echo "  unpacking";; \
      ERROR:|error:|WARNING:) echo "  $$word $$rest";; \
    esac; done; }
endef

.PHONY: help setup check test demo simulate soak bench bench-gateway lock

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(STAMP) ## Make .venv with everything in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed: install it, or call make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "setup 1/3: making $(VENV)"
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV)
	@echo "setup 2/3: installing the locked packages (about 250 MB, once)"
	@$(PIP) install --progress-bar off --require-hashes -r requirements.lock 2>&1 | $(COUNTED)
	@echo "setup 3/3: installing syncline itself"
	@$(PIP) install --quiet --no-build-isolation --no-deps -e .
	@touch $(STAMP)
	@echo "setup done: $(BIN)/syncline --help"

check: setup ## Style, types and the import rule
	@echo "check 1/4: ruff check";  $(BIN)/ruff check .
	@echo "check 2/4: ruff format"; $(BIN)/ruff format --check .
	@echo "check 3/4: pyright";     $(BIN)/pyright
	@echo "check 4/4: imports";     $(BIN)/lint-imports

test: setup ## All tests, on real Kafka
	$(PYTEST) -m "not soak" --numprocesses 2

demo: setup ## The main job with simulated platforms, crashes and a report
	$(BIN)/syncline demo $(ARGS)

simulate: setup ## Seeded simulation: SEED=n, or SEEDS=from-to
	$(BIN)/python -m tests.simulation $(or $(SEED),$(SEEDS),0-1999)

soak: setup ## Long matrices, by hand
	$(PYTEST) -m soak
	HYPOTHESIS_PROFILE=search $(PYTEST) tests/unit tests/conformance

bench: setup ## Benchmarks against alternatives
	$(BIN)/python -m benchmarks

bench-gateway: setup ## The webhook gateway against one in Go and one in Node, both built first
	$(BIN)/python -m benchmarks.gateway $(ARGS)

lock: setup ## Resolve requirements.lock and syncline/jars.lock; UPGRADE=1 takes newest versions
	@echo "lock 1/2: requirements.lock"
	@$(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --disable-pip-version-check --quiet uv
	@$(VENV)/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet \
	  $(if $(UPGRADE),--upgrade) -o requirements.lock
	@echo "lock 2/2: syncline/jars.lock"
	@$(BIN)/python -m syncline.jars
