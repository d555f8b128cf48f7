.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Address of a package index to take torch from, or "pip" for pip's own. Empty: without CUDA on a machine without a GPU
TORCH_INDEX ?=
# What `make serve` needs is installed first; what other targets need only when they are asked for
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

# Byte code is kept: else every process compiles every module, and pytest rewrites every test's module, each time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve install install-dev docs test test-shapes test-busy test-slow test-very-slow test-life test-gpu check format format-check lint typecheck imports deploy-lint bench bench-peers checkpoint docs-tables clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@TORCH_INDEX="$(TORCH_INDEX)" deploy/install.sh $(BIN)/python
	@echo "installed: $$(du -sm $(VENV) | cut -f 1) MB in $(VENV)"
	@touch $@

$(VENV)/.installed-train: $(VENV)/.installed
	@echo "installing what meta-training needs: about 20 MB to download, 100 MB on the disk"
	@$(INSTALL) --editable '.[server,train]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what tests and benchmarks need: about 450 MB to download, 900 MB on the disk"
	@$(INSTALL) --editable '.[dev,bench]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "installing what the documentation needs"
	@$(INSTALL) --editable '.[docs]'
	@touch $@

install: $(VENV)/.installed ## Install the service; TORCH_INDEX=ADDRESS takes torch from there
install-dev: $(VENV)/.installed-dev ## Install what tests and benchmarks need, too

serve: install ## Start the server on 127.0.0.1:8000
	@exec $(BIN)/handful serve

# One thread for each process: two that share cores wait for each other at every barrier. A file's tests run in one
# process, so that what they share is made once. Files run in their order: sorted by their number of tests, files of few
# and long tests would be the last, and one core would wait for the other
PER_CORE := --numprocesses auto --dist loadfile --no-loadscope-reorder

test: install-dev ## Run the tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PER_CORE)

test-shapes: install-dev ## Run the learning core's tests with the shapes and types of annotations checked
	CHECK_SHAPES=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PER_CORE) tests/metalearn

BUSY_S ?= 3600
test-busy: install-dev ## Run the tests beside a loop that keeps every core busy
	@loops=; for core in $$(seq $$(nproc)); do timeout $(BUSY_S) sh -c 'while :; do :; done' & loops="$$loops $$!"; done; \
	  trap 'kill $$loops 2>/dev/null' EXIT INT TERM; \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PER_CORE)

test-slow: install-dev ## Run what takes long: whole runs of meta-training, workers, restarts
	$(BIN)/python -m pytest -m slow

test-gpu: install-dev ## Run what needs a CUDA device
	$(BIN)/python -m pytest -m gpu

test-very-slow: install-dev ## Run the whole comparison on sinusoids, and test-life
	$(BIN)/python -m pytest -m very_slow

test-life: install-dev ## Take 200 random walks through a task's life and run 200 races, on both stores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PER_CORE) --dist load -m very_slow \
	  tests/service/test_examples_machine.py tests/service/test_examples_race.py

format: install-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

format-check: install-dev
	$(BIN)/ruff format --check .

lint: install-dev ## Look for mistakes and bad habits
	$(BIN)/ruff check .

typecheck: install-dev ## Check the types
	$(BIN)/mypy

imports: install-dev ## Check which package imports which
	$(BIN)/lint-imports

deploy-lint: install-dev ## Check Dockerfile, compose file and what they mount
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict --config-file deploy/yamllint.yaml docker-compose.yml deploy

check: format-check lint typecheck imports deploy-lint test test-shapes test-slow ## All of the above but format

PEERS := build/peers
peer = $(if $(wildcard $(PEERS)/$(1)),--$(1)-python $(PEERS)/$(1)/bin/python)

bench-peers: ## Install what `make bench` compares speed with, each in an environment of its own
	for peer in setfit fastfit regression infinity; do \
	  $(PYTHON) -m venv $(PEERS)/$$peer && \
	  $(PEERS)/$$peer/bin/pip install --quiet --requirement benchmarks/peers/requirements-$$peer.txt || exit 1; \
	done

bench: install-dev ## Run the benchmarks; needs BENCH_DATA=FOLDER with the task files (see benchmarks/README.md)
	$(BIN)/python -m benchmarks.accuracy --data "$(BENCH_DATA)"
	$(BIN)/python -m benchmarks.speed --data "$(BENCH_DATA)" $(foreach name,setfit fastfit regression,$(call peer,$(name))) \
	  $(if $(wildcard $(PEERS)/infinity),--infinity $(PEERS)/infinity/bin/infinity_emb)

RECIPE ?= e5-small-handful
checkpoint: $(VENV)/.installed-train ## Meta-train a shipped checkpoint: DATA=FOLDER of task files; hours, goes on where it was stopped
	$(BIN)/handful metatrain --recipe $(RECIPE) --data "$(DATA)" --out build/checkpoint \
	  $(if $(OPEN_LICENCES_ONLY),--open-licences-only)

docs-tables: install ## Write the tables of options into the documents
	$(BIN)/python -m docs.tables

docs: $(VENV)/.installed-docs ## Build the documentation as a site: build/site/html
	$(BIN)/python -m docs.site

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
