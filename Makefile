# Everything a newcomer and CI need. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := llm,offline,onnx,openvino,evaluate,msk-iam,dev
UV_VERSION := 0.13.9
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast-test fuzz chaos container-test lint format docs schemas lock local-up local-down clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## Create .venv from the locked dependencies

# The stamp is written last: an install that was interrupted is done again. uv resolves the constraints in seconds;
# pip alone takes minutes over them.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "error: Python 3.11 or newer is needed; make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >/dev/null \
		|| { echo "error: $(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing the locked dependencies (PyTorch is large: minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## Ask real questions through the whole stack and show what reranking does
	@$(BIN)/rerank-worker demo

# Tests wait more than they compute: three lanes take less time than two even on two cores. A file's tests stay in one
# lane, with the servers they share; the slow files come first.
LANES ?= 3
PYTEST := $(BIN)/python -m pytest -n $(LANES) --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## Run every test, the slow ones on real Kafka, Chroma and models too
	@$(PYTEST)

fast-test: $(STAMP) ## Run the tests that need no server and no real model
	@$(PYTEST) -m "not slow"

fuzz: CASES ?= 20000
fuzz: $(STAMP) ## Send a worker records of any headers, keys, filters and timestamps (CASES)
	@RERANK_WORKER_TESTS_FUZZ_CASES=$(CASES) $(BIN)/python -m pytest -q -s tests/integration/worker/test_fuzz_records.py

chaos: SEED ?= 1
chaos: MINUTES ?= 5
chaos: EVENTS ?= 5000
chaos: OF ?= queries
chaos: $(STAMP) ## Break things at random under load and judge what comes of it (OF=queries or index, SEED, MINUTES, EVENTS, OPTIONS)
	@$(BIN)/python -m tests.faults.chaos $(OF) --seed $(SEED) --minutes $(MINUTES) --events $(EVENTS) $(OPTIONS)

# Where no engine answers it is skipped, and says so.
container-test: $(STAMP) ## Build the image and run the stack on a Docker engine: asked, scaled, stopped, watched
	@$(BIN)/python -m pytest -v -s -o timeout=7200 tests/containers

lint: $(STAMP) ## Check style, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Apply style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: $(STAMP) ## Regenerate the JSON Schemas of the contract
	@$(BIN)/python -m schemas.export

docs: schemas ## Regenerate the JSON Schemas, the reference pages and what the chart knows of settings
	@$(BIN)/python -m schemas.reference
	@$(BIN)/python -m worker.settings.reference
	@$(BIN)/python -m worker.settings.chart
	@$(BIN)/python -m worker.telemetry.reference
	@$(BIN)/python -m worker.cli.reference

lock: $(STAMP) ## Resolve the dependencies anew into constraints.txt
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --all-extras --output-file constraints.txt pyproject.toml

local-up: $(STAMP) ## Start Kafka, Chroma and the LLM in the background
	@$(BIN)/rerank-worker local up

local-down: $(STAMP) ## Stop them
	@$(BIN)/rerank-worker local down

clean: ## Remove the environment and caches of this checkout
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
