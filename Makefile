# `make demo` and `make test` do all the set-up they need, in an environment of their own (.venv).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-full lint

demo: .venv/ready
	$(BIN)/neurosim demo

test: lint
	$(BIN)/python -m pytest -m "not full"

# The long runs, and the suite again as plain Python, which shows what the tests cover of kernels.
test-full: lint
	$(BIN)/python -m pytest
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -m "not full and not compiled"
	$(BIN)/coverage report --skip-covered

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@
