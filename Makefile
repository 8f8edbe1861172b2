# Two commands are enough on a fresh machine with Python 3.11 (or 3.10) and a
# package index: `make run` and `make test`. Both create the environment first.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
UV ?= $(shell command -v uv || echo .uv/bin/uv)
CONFIG ?= configs/movielens-100k.yaml
OUTPUT ?= output
# The model that was pushed last, whatever the configuration's name.
MODEL_BASE ?= $(shell ls -td $(OUTPUT)/serving_models/*/ 2>/dev/null | head -n 1)
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements.lock.installed

.PHONY: help env run serve test test-slow lint format lock clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

env: $(STAMP)  ## Create .venv with every package pinned by requirements.lock.

# uv resolves and installs the set in seconds; pip's resolver does not finish on TFX.
.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

$(STAMP): requirements.lock $(filter .uv/bin/uv,$(UV))
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	# Compiled now: importing TensorFlow and TFX from source alone takes most of a process's start,
	# at every start where Python may not write what it compiles (PYTHONDONTWRITEBYTECODE).
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	touch $@

run: env  ## Train, gate, index and push on MovieLens 100K (or CONFIG=...).
	$(BIN)/python local_runner.py --config $(CONFIG) --output_dir $(OUTPUT)

serve: env  ## Serve the last pushed model over REST (8501) and gRPC (8500).
	@test -n "$(MODEL_BASE)" || { echo "Nothing is pushed below $(OUTPUT)/serving_models: run 'make run' first." >&2; exit 1; }
	$(BIN)/python -m serving.server --model_name mind --model_base_path $(abspath $(MODEL_BASE))

test: env lint  ## Lint, types and every test that is not marked slow.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: env  ## The tests marked slow.
	$(BIN)/python -m pytest -m slow

lint: env  ## ruff and mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env  ## Let ruff format and fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = $(UV) pip compile setup.py --extra all --universal --python-version 3.10 \
	  --no-header --no-annotate --quiet

lock:  ## Renew requirements.lock and requirements-gpu.lock from setup.py.
	$(COMPILE) --upgrade --output-file requirements.lock
	cp requirements.lock requirements-gpu.lock  # uv keeps the versions that it finds
	$(COMPILE) --extra gpu --output-file requirements-gpu.lock

clean:  ## Remove the environment and caches; output/ stays.
	rm -rf $(VENV) .uv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
