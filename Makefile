# `make run`: the first build on simulated data. `make test`: lint, types, tests.
# PyTorch's CPU build: from the configured index if it has one, else from PyTorch's own; never the CUDA build of 3 GB.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: run test lint types install lock clean

run: install
	$(BIN)/edge build --modality optical --int8

test: lint types
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow an editable install, so it reads a copy.
types: install
	rm -rf build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target build/types .
	$(BIN)/mypy -p edge

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$(TORCH)+cpu" || $(BIN)/pip install -q --index-url $(TORCH_INDEX) $(TORCH)
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	touch $@

# For Python 3.10 and newer on every platform. torch comes from TORCH; its CUDA packages are left out.
lock:
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile --universal --python-version 3.10 --extra dev --no-emit-package torch --quiet \
		--no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock

clean:
	rm -rf $(VENV) build runs .mypy_cache .pytest_cache .ruff_cache
