# `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin
FOR ?= 0

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

# What is there stays: another interpreter's environment over it would be a mixture of both.
.venv/.demo: pyproject.toml
	@sh demo/install.sh python $(PYTHON)
	@echo "installing what the demo needs into .venv"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/.test: .venv/.demo
	@echo "installing what the tests need into .venv"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test]'
	@touch $@

demo-servers:
	@sh demo/install.sh demo

test-servers:
	@sh demo/install.sh tests

setup: test-servers .venv/.test  ## make .venv with all that the other targets need, and the servers where apt can

demo: demo-servers .venv/.demo  ## watch a real worker check real servers (FOR=20 ends by itself)
	@$(BIN)/python -m demo --seconds $(FOR)

test: setup  ## run every test
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

bench: setup  ## what a check costs, side by side with others (SCALE=1: large fleets)
	@$(BIN)/python -m bench $(if $(SCALE),--scale)

chaos: setup  ## what breaks on our own side, for long and at random (ONLY="kill clock")
	@$(BIN)/python -m chaos $(ONLY)

bench-document: setup  ## put the tables of the last two runs into docs/performance.md
	@$(BIN)/python -m bench --document

lint: .venv/.test  ## formatting, ruff, mypy strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## everything that must be green at every commit

clean:  ## remove what the other targets made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist

.PHONY: help demo-servers test-servers setup demo test bench bench-document chaos lint check clean
