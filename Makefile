# `make demo` and `make test` do all the set-up they need, in an environment of their own (.venv).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-full lint

demo: .venv/ready
	$(BIN)/neurosim demo

test: lint
	$(BIN)/python -m pytest -m "not full"

# The long runs; then the tests that reach every kernel as plain Python, for their coverage.
test-full: lint
	$(BIN)/python -m pytest
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --source=neurosim.kernels -m pytest -q \
		tests/test_backends.py tests/test_statistics.py tests/test_faults.py \
		tests/test_campaign.py tests/test_prediction.py
	$(BIN)/coverage report --show-missing

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@
