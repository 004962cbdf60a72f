# `make demo` and `make test` do all the set-up they need, in an environment of their own (.venv).
PYTHON ?= python3
BIN := .venv/bin
BENCH := .venv-bench/bin

# The kernels that the BLAS itself finds best for the processor, whatever the environment says.
BENCH_PYTHON := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BENCH)/python scripts/bench

.PHONY: demo test test-full lint bench

demo: .venv/ready
	$(BIN)/neurosim demo

test: lint
	$(BIN)/python -m pytest -n 2 -m "not full"

# The long runs, with another simulator that reads NIR (Norse, which brings torch); then the tests
# that reach every kernel as plain Python, for their coverage.
test-full: lint
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,nir-check]"
	$(BIN)/python -m pytest -n 2
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --source=neurosim.kernels -m pytest -q \
		tests/test_backends.py tests/test_statistics.py tests/test_faults.py \
		tests/test_campaign.py tests/test_prediction.py
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --append --source=neurosim.kernels -m pytest -q \
		tests/test_spiking.py -k "TestCompiled or replayed or refractory or currents or deep_layers"
	$(BIN)/coverage report --show-missing

# Speed beside peers, on an idle machine: about 35 minutes. `make bench QUICK=--quick`: 4 minutes.
# scripts/bench/document.py then puts the results into docs.
bench: .venv-bench/ready
	$(BENCH_PYTHON)/networks.py
	$(BENCH_PYTHON)/peers.py $(QUICK)
	$(BENCH_PYTHON)/activations.py $(QUICK)
	$(BENCH_PYTHON)/scaling.py $(QUICK)
	$(BENCH_PYTHON)/streaming.py $(QUICK)
	$(BENCH_PYTHON)/prediction.py $(QUICK)
	$(BENCH_PYTHON)/spiking.py $(QUICK)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

.venv-bench/ready: setup.cfg constraints.txt scripts/bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/pip install --quiet --constraint constraints.txt --editable . \
		--requirement scripts/bench/requirements.txt
	touch $@
