# `make` alone lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
# PIP_ARGS passes options to pip, such as an extra index that holds CPU-only builds of torch.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-gpu check bench

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: .venv/.installed ## make .venv and install everything into it

.venv/.installed: pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" sh scripts/setup.sh

demo: setup ## train a small network, compress it through the service, check the result (under 3 minutes)
	@$(BIN)/python -m demo

serve: setup ## run the service on this machine (Ctrl-C ends it)
	@$(BIN)/python -m worker serve

test: setup ## run all tests
	@sh scripts/browser.sh
	$(BIN)/python -m pytest

test-gpu: setup ## run the engine's tests that matter on a CUDA device
	$(BIN)/python -m pytest -n 0 -m gpu tests/engine

check: setup ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## run the quick form of every benchmark
	@for name in $$(cd benchmarks && ls *.py | grep -v __init__ | sed 's/.py$$//'); do $(BIN)/python -m benchmarks.$$name --quick; done
