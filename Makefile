.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make serve` needs is installed first; what tests and benchmarks need only when they are asked for
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help serve install install-dev test test-busy test-slow test-very-slow check format format-check lint typecheck imports deploy-lint bench bench-peers checkpoint clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing; the first time takes a minute or two"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what tests and benchmarks need"
	@$(INSTALL) --editable '.[dev,bench]'
	@touch $@

install: $(VENV)/.installed ## Install the service
install-dev: $(VENV)/.installed-dev ## Install what tests and benchmarks need, too

serve: install ## Start the server on 127.0.0.1:8000
	@exec $(BIN)/handful serve

# One thread for each process: two that share cores wait for each other at every barrier
test: install-dev ## Run the tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

BUSY_S ?= 3600
test-busy: install-dev ## Run the tests beside a loop that keeps every core busy
	@loops=; for core in $$(seq $$(nproc)); do timeout $(BUSY_S) sh -c 'while :; do :; done' & loops="$$loops $$!"; done; \
	  trap 'kill $$loops 2>/dev/null' EXIT INT TERM; \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

test-slow: install-dev ## Run what takes long: whole runs of meta-training, workers, restarts
	$(BIN)/python -m pytest -m slow

test-very-slow: install-dev ## Run the whole comparison on sinusoids
	$(BIN)/python -m pytest -m very_slow

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

check: format-check lint typecheck imports deploy-lint test test-slow ## All of the above but format

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

# What the default checkpoint is made with. Two runs, the second from where the first has come to, and half way between them
# (of what ships the first took 1,400 steps, the second --bf16); then two more with every second task in other languages
# beside, one from there and one from stock weights: 0.4, 0.3 and 0.3 of their layers. The stock view, its weights after
# training, and the averages were chosen on validation tasks (docs/log.md); rates and sizes are first choices that were not
# compared
RUN ?= build/checkpoint
MORE ?= $(RUN)-more
HALF = $(RUN)-multilingual
TRAIN = --tasks "$(DATA)/train" --tasks "$(DATA)/train-pairs" --leave-out et_ritter_twitter \
  $(foreach file,$(wildcard $(DATA)/unlabelled/*),--unlabelled "$(file)") \
  --trained-layers 3 --stock-view --label-text-share 0.5 --out-of-scope-share 0.1 --splits 3 \
  --ways 2-64 --shots 1-16 --queries 6 --max-support 96 --max-query 64 --max-tokens 256 \
  --meta-batch 2 --learning-rate 1e-4 --average 0.99 \
  --encoder-licence Apache-2.0 $(if $(OPEN_LICENCES_ONLY),--open-licences-only)
TWO = $(TRAIN) --pairs-share 0.3 --unlabelled-share 0.1 --warmup-steps 60 \
  --valid "$(DATA)/valid" --valid-episodes 2 --patience 1000
RECIPE = $(TWO) --steps 2400 --validate-every 200
# Of all runs but the first the layers alone are used
RECIPE_MORE = $(TWO) --steps 2200 --validate-every 550 --seed 3 --unlabelled-classes words --start-from "$(RUN)"
# Without validations, so that each ends with its newest weights: averaged they serve better than they do alone
LANGUAGES = $(TRAIN) --tasks "$(HALF)" --index "$(DATA)/index.tsv" --pairs-share 0.25 --unlabelled-share 0.08 \
  --unlabelled-classes words --bf16
RECIPE_ON = $(LANGUAGES) --steps 700 --warmup-steps 40 --seed 11 --start-from "$(RUN)-weighed"
RECIPE_ANEW = $(LANGUAGES) --steps 1500 --warmup-steps 60 --seed 21 --start-from "$(RUN)-stock-weighed"
WEIGHTS = --stock-share 0.5 --stock-mix 1,0.2,0.2 --trained-mix 1,0.2,0.2 --label-text-count 2 \
  --token-similarity 1.5
# $(call meta-train,FOLDER,OPTIONS): goes on where it was stopped
meta-train = $(BIN)/handful metatrain --out "$(1)" $(if $(wildcard $(1)/training/config.json),--resume,$(2))
# $(call copy,FOLDER,COMMAND,CHECKPOINTS,OPTIONS): unless it is there
copy = test -d "$(1)" || $(BIN)/handful checkpoint $(2) $(3) "$(1)" $(4)

checkpoint: install ## Meta-train the default checkpoint: DATA=FOLDER of task files; hours, goes on where it was stopped
	@test -d "$(DATA)/train" || { echo "give DATA=FOLDER with train/, train-pairs/, train-multilingual/, unlabelled/ and valid/"; exit 2; }
	mkdir -p "$(HALF)" && ls -d "$(abspath $(DATA))"/train-multilingual/*.jsonl | awk 'NR % 2' | xargs ln -sft "$(HALF)"
	$(call meta-train,$(RUN),$(RECIPE))
	$(call meta-train,$(MORE),$(RECIPE_MORE))
	$(call copy,$(RUN)-averaged,average,"$(RUN)" "$(MORE)")
	$(call copy,$(RUN)-weighed,reweigh,"$(RUN)-averaged",$(WEIGHTS))
	$(call meta-train,$(RUN)-on,$(RECIPE_ON))
	$(call copy,$(RUN)-stock,create,,--encoder-licence Apache-2.0 --trained-layers 3 --stock-view)
	$(call copy,$(RUN)-stock-weighed,reweigh,"$(RUN)-stock",$(WEIGHTS) --steps 20 --words-only)
	$(call meta-train,$(RUN)-anew,$(RECIPE_ANEW))
	$(call copy,$(RUN)-two,average,"$(RUN)-weighed" "$(RUN)-on",--share 0.428571)
	$(call copy,$(RUN)-three,average,"$(RUN)-two" "$(RUN)-anew",--share 0.3)
	$(call copy,$(RUN)-three-weighed,reweigh,"$(RUN)-three",$(WEIGHTS) --words-only)
	$(BIN)/handful checkpoint calibrate "$(RUN)-three-weighed" "$(RUN)-calibrated" --tasks "$(DATA)/valid" --half \
	  --name minilm-l6-handful

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
