# make demo: the quickstart study, end to end.  make test: the tests.  make check: lint and types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stillhouse-env
export OMP_NUM_THREADS ?= 1

.PHONY: env demo test test-all test-backends check bench gpu-wheels gpu-check

env: $(STAMP)

# uv makes the environment in under a minute; it is fetched with pip where it is missing.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; give it with: make PYTHON=python3.12 env"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@UV=$$(command -v uv || echo $(BIN)/uv); \
	  $$UV pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock && \
	  $$UV pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

demo: env
	$(BIN)/stillhouse run studies/quickstart/study.yaml

test: env
	$(BIN)/python -m pytest -q -m "not slow and not backend"

test-all: env
	$(BIN)/python -m pytest -q

# Real servers, started and stopped by the tests: PostgreSQL, S3, MLflow, Ray clusters, Slurm jobs.
test-backends: env
	$(BIN)/python -m pytest -q -m backend

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy harness evaluation recipes benchmarks
	$(BIN)/lint-imports

bench: env
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/cycle.py

# What a machine with a GPU and no way out lacks, collected here into wheels/.
gpu-wheels: env
	$(BIN)/python benchmarks/gpu_wheels.py

# On that machine: nothing is installed, not even .venv; `make gpu-check PYTHON=python3`.
gpu-check:
	PYTHONUNBUFFERED=1 $(PYTHON) benchmarks/gpu.py
