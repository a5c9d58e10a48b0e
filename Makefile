# Every target makes what it needs, from Python 3.11 or newer and make alone, in .venv of this folder.

PYTHON ?= python3
# Pinned and installed before the rest: pip then takes a CPU build where one lies at hand.
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CODE := src tests docs benchmarks
KERNELS := hatch_build.py $(wildcard src/unmask/engine/kernels/*)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check docs bench bench-engine clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.core ## Make .venv with the package and the `unmask` command in it
	@echo "ready: $(BIN)/unmask --help"

demo: $(VENV)/.core ## Run the whole path on the bundled text: tokenizer, corpus, pre-training, fine-tuning, answers
	$(BIN)/unmask demo

test: $(VENV)/.dev ## Run the test suite (under ten minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 15

test-slow: $(VENV)/.dev ## Run the tests that take minutes each
	$(BIN)/python -m pytest -m slow --durations 15

check: $(VENV)/.dev ## Check format, lint and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

docs: $(VENV)/.dev ## Write the pages of docs/reference anew from the code
	$(BIN)/python docs/generate.py

bench: $(VENV)/.bench ## Measure training and start-up beside their peers
	@set -e; for script in finetune_cpu pretrain_cpu start_up; do echo "== $$script"; $(BIN)/python benchmarks/$$script.py; done

bench-engine: $(VENV)/.bench ## Measure the engine beside all its peers, every model and workload (hours)
	$(BIN)/python benchmarks/engine_cpu.py

clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A file that stands for a finished step: the step is done again only when pyproject.toml or this file is newer.
$(VENV)/.torch: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "unmask needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.core: pyproject.toml $(KERNELS) $(VENV)/.torch
	$(PIP) "$(TORCH)" -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(KERNELS) $(VENV)/.torch
	$(PIP) "$(TORCH)" -e '.[dev,zh]'
	@touch $@ $(VENV)/.core

$(VENV)/.bench: pyproject.toml $(KERNELS) $(VENV)/.torch
	$(PIP) "$(TORCH)" -e '.[bench,zh]'
	@touch $@ $(VENV)/.core
