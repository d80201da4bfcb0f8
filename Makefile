# make demo: own environment, `dvc repro` on the demo suite, the results table; SUITE=mine takes suites/mine.yaml.  make test: own environment, the whole test suite.
# make results: own environment, the tables of docs/results/ again (hours; goes on where it was interrupted); SUITES="demo demo-dense" takes these.
# make test-fast: for a change at work: all but the rooms, files and tests that tests/slow.txt names.
# make test-processors: tests marked `processor`, in as much of this processor as older ones have: AVX2 (most laptops), then SSE4.1.
PYTHON ?= python3
VENV ?= .venv
SUITE ?= demo
BIN := $(VENV)/bin
# tests/conftest.py says which tests share a worker, and in which order groups start. Three on two cores: at any time one waits for a process.
WORKERS := -n 3 --dist loadgroup --no-loadscope-reorder
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo results test test-fast checks test-pytest test-fast-pytest test-processors environment lock

environment: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else \
	  "Python 3.11 or 3.12 is needed, %s is %d.%d: make PYTHON=python3.11 ..." % (sys.executable, *v))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: environment
	@$(BIN)/python -m pipeline use $(SUITE)
	$(BIN)/dvc repro
	@$(BIN)/python -m pipeline table

results: environment
	@$(BIN)/python -m pipeline results $(SUITES)

# The types are checked while the tests run.
test test-fast: environment
	@$(MAKE) --no-print-directory --jobs 2 checks $@-pytest

checks: environment
	$(BIN)/ruff check .
	$(BIN)/mypy

# Byte code is kept, whatever the environment says: the tests start many processes.
test-pytest test-fast-pytest: export PYTHONDONTWRITEBYTECODE :=
test-pytest test-fast-pytest: environment
	$(BIN)/python -m pytest $(WORKERS) $(if $(filter test-fast-pytest,$@),-m "not slow")

# Both libraries that compute here read their limit when a process starts: oneDNN the first variable, PyTorch's own kernels the second.
test-processors: environment
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest $(WORKERS) -m processor
	ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest $(WORKERS) -m processor

# Fix the versions that a fresh machine installs, for Python 3.11 and 3.12 alike.
lock:
	uv pip compile --universal --python-version 3.11 --extra test --no-header --no-annotate --generate-hashes pyproject.toml -o requirements.lock
