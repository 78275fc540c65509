# `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin
FOR ?= 0

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

setup: .venv/.ready  ## make .venv, and install the servers where apt can
	@sh demo/install-servers.sh

demo: setup  ## watch a real worker check real servers (FOR=20 ends by itself)
	@$(BIN)/python -m demo --seconds $(FOR)

test: setup  ## run every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: setup  ## what a check costs, side by side with others (SCALE=1: large fleets)
	@$(BIN)/python -m bench $(if $(SCALE),--scale)

lint: .venv/.ready  ## formatting, ruff, mypy strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## everything that must be green at every commit

clean:  ## remove what the other targets made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist

.PHONY: help setup demo test bench lint check clean
