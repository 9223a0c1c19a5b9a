# make demo: the quickstart study, end to end.  make test: the tests.  make check: lint and types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
STAMP := $(VENV)/.stillhouse-env
export OMP_NUM_THREADS ?= 1

.PHONY: env demo test test-all test-backends check bench gpu-wheels gpu-check

env: $(STAMP)

# uv makes the environment in under a minute; the version that is pinned here, fetched with pip. It
# takes nothing whose hash is not in the lock. To make that again after a change of pyproject.toml:
# uv pip compile --all-extras --generate-hashes --no-annotate --no-header pyproject.toml -o requirements.lock
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; give it with: make PYTHON=python3.12 env"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/uv --version 2>/dev/null | grep -q "^uv $(UV)\b" || $(BIN)/python -m pip install --quiet uv==$(UV)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	  --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
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
	$(BIN)/vulture
	$(BIN)/deptry .

bench: env
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/cycle.py

# What a machine with a GPU and no way out lacks, collected here into wheels/.
gpu-wheels:
	$(PYTHON) benchmarks/gpu_wheels.py

# On that machine: nothing is installed, not even .venv; `make gpu-check PYTHON=python3`.
gpu-check:
	PYTHONUNBUFFERED=1 $(PYTHON) benchmarks/gpu.py
