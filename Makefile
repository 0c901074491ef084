# A fresh machine needs Python (3.10 or later) and make, nothing else.
#   VENV=DIR    environment to use, made when absent (default .venv; a first install is about 3 GB)
#   VENV=       (empty) use PYTHON as it is and install nothing
#   PYTHON=EXE  interpreter that makes the environment (default python3)
#   WORKERS=N   processes that share the tests (default: one for each processor, 8 at most)
#   ARGS=...    more options of pytest, such as ARGS=--cov
PYTHON ?= python3
VENV ?= .venv
DEVICE ?= cuda
WORKERS ?= logical
ARGS ?=
LOWEST ?= .venv-lowest

# One thread for each worker: torch's own threads would fight over the processors.
test test-fast fuzz test-lowest: export OMP_NUM_THREADS ?= 1
test test-fast fuzz test-lowest: export OMP_WAIT_POLICY ?= passive
# With it, each of the many processes that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE
# A file goes whole to the worker that is free, so what its tests share is made once; tests/conftest.py
# puts those that take long first.
PYTEST = -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

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
.PHONY: help demo test test-fast fuzz test-lowest lint bench bench-full docs-tables check-results golden gpu-check

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(READY) ## run six methods on the embedded scenes; table and picture in demo/
	$(RUN) -m mlfsic_bench demo --out demo

test: $(READY) ## run the test suite; MLFSIC_DATA=DIR adds the tests on real COCO and VOC
	$(RUN) $(PYTEST) $(ARGS)

test-fast: $(READY) ## run the tests of files that take no two seconds: the inner loop
	$(RUN) $(PYTEST) -m "not slow" $(ARGS)

fuzz: $(READY) ## search longer and with new examples in the tests that hypothesis drives
	$(RUN) $(PYTEST) -m hypothesis --hypothesis-profile=fuzz $(ARGS)

test-lowest: $(LOWEST)/.installed ## run the test suite with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python $(PYTEST) $(ARGS)

lint: $(READY_DEV) ## check style (ruff), format (ruff) and types (mypy --strict)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(READY) ## run the benchmarks one after the other; ends with the table of all goals
	$(RUN) -m tools.bench

bench-full: $(READY) ## run on files of official size (3 GB in build/): time, memory, growth
	$(RUN) -m tools.bench full growth

golden: $(READY) ## store the scores of new methods and new versions for the golden gate
	$(RUN) -m tests.golden.gate

gpu-check: $(READY) ## check what needs a GPU, in minutes; DEVICE=cpu rehearses it without one
	$(RUN) -m tools.gpu_check --device $(DEVICE)

docs-tables: $(READY) ## fill the tables and values of README.md and docs/ from results/
	$(RUN) -m tools.refresh_docs

check-results: $(READY) ## compute all archived tables again and compare them with their files
	$(RUN) -m tools.check_archive

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than 3.10; name another with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One pip command for everything, so that torch and torchvision are resolved as a pair.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[test,lite,bert,browser]'
	@touch $@

# An environment of its own, with the interpreter that PYTHON names.
$(LOWEST)/.installed: pyproject.toml tools/lowest.py
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) -m tools.lowest > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install -c $(LOWEST)/lowest.txt -e '.[test,lite,bert,browser]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[dev,lite,bert,browser]'
	@touch $@ $(VENV)/.installed
