# A fresh machine needs Python (3.10 or later) and make, nothing else.
#   VENV=DIR    environment to use, made when absent (default .venv; a first install is about 3 GB)
#   VENV=       (empty) use PYTHON as it is and install nothing
#   PYTHON=EXE  interpreter that makes the environment (default python3)
PYTHON ?= python3
VENV ?= .venv
DEVICE ?= cuda

ifeq ($(strip $(VENV)),)
  RUN := $(PYTHON)
  READY :=
  READY_DEV :=
else
  RUN := $(VENV)/bin/python
  READY := $(VENV)/.installed
  READY_DEV := $(VENV)/.installed-dev
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench figures golden gpu-check

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: $(READY) ## run every method on the embedded scenes; table and picture in demo/
	$(RUN) -m mlfsic_bench demo --out demo

test: $(READY) ## run the test suite; MLFSIC_DATA=DIR adds the tests on real COCO and VOC
	$(RUN) -m pytest

lint: $(READY_DEV) ## check style (ruff), format (ruff) and types (mypy --strict)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(READY) ## time every room against its peers; ratios, one script after the other
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(RUN) "$$script"; done

golden: $(READY) ## store the scores of new methods and new versions for the golden gate
	$(RUN) -m tests.golden.gate

gpu-check: $(READY) ## check what needs a GPU, in minutes; DEVICE=cpu rehearses it without one
	$(RUN) -m tools.gpu_check --device $(DEVICE)

figures: $(READY) ## fill the figures of README.md and docs/ from the files in results/
	$(RUN) -m tools.refresh_docs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than 3.10; name another with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One pip command for everything, so that torch and torchvision are resolved as a pair.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[test,lite,bert,browser]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[dev,lite,bert,browser]'
	@touch $@ $(VENV)/.installed
