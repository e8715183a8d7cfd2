# Everything from a fresh clone. `make` lists the targets. PYTHON selects the interpreter.
# docs/install.md explains the variables.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export VIRTUAL_ENV := $(abspath $(VENV))
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)

# The installer: python -m pip, or "uv pip". With WHEELHOUSE it uses the wheels in that folder, and no network.
PIP ?= $(BIN)/python -m pip
WHEELHOUSE ?=
OFFLINE := $(if $(WHEELHOUSE),--no-index --find-links $(WHEELHOUSE))
HOUSE := $(or $(WHEELHOUSE),wheelhouse)

COMMA := ,
# CUDA: 13, 12 (drivers before 580) or none (no DALI). By default that of the environment, else 13 on Linux.
CUDA ?= $(or $(patsubst $(VENV)/cuda-%,%,$(wildcard $(VENV)/cuda-*)),$(if $(filter Linux,$(shell uname -s)),13,none))
EXTRAS := dev$(patsubst %,$(COMMA)cuda%,$(filter-out none,$(CUDA)))
CONSTRAINTS := constraints$(if $(filter 12,$(CUDA)),-cuda12).txt
DONE := $(VENV)/cuda-$(CUDA)

WORKERS ?= 3
ELSEWHERE := PYTHONPATH=$(CURDIR)/tests/elsewhere
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install wheelhouse repro test test-cluster test-elsewhere test-all lint bench bench-gpu readme clean
.DEFAULT_GOAL := help

help: ## List these targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

# The virtual environment, with exactly the tested versions. For another CUDA it is made from scratch, because the
# packages of DALI for CUDA 12 and 13 write one folder.
$(DONE): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(if $(filter-out $@,$(wildcard $(VENV)/cuda-*)),--clear) $(VENV)
	$(PIP) install --quiet $(OFFLINE) --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

install: $(DONE) ## Install into .venv. CUDA=12: for drivers before 580; CUDA=none: without DALI.

# Wheels of everything, also of what is only published as source, and of what builds this package.
wheelhouse: ## Collect all wheels in WHEELHOUSE, for machines without a network.
	$(PYTHON) -m venv $(HOUSE)/.venv
	$(HOUSE)/.venv/bin/python -m pip wheel --quiet --constraint $(CONSTRAINTS) --wheel-dir $(HOUSE) '.[$(EXTRAS)]' setuptools
	rm -rf $(HOUSE)/.venv $(HOUSE)/vgg_repro-*.whl

repro: $(DONE) ## Reproduce everything: all runs, all evaluations, Tables 1 to 12, the report (minutes).
	vgg-repro run --jobs 2
	vgg-repro report --out reports/

# Plain `pytest` runs only the quick tests. Tests wait for a third of their time, so that three processes suit two cores;
# WORKERS=12 suits eight.
test: $(DONE) ## Run the tests that a contributor needs (minutes).
	$(PYTEST) -m 'not exhaustive and not cluster'

test-cluster: $(DONE) ## Run jobs on a real Slurm on this machine, which root installs with apt (minutes).
	$(PYTEST) -m cluster

# In a Python without DALI, /proc and Linux's own calls; test-all does so with all quick tests.
# 170 tests, 31 CPU seconds.
test-elsewhere: $(DONE) ## Run a few tests as on another system (minutes).
	$(ELSEWHERE) $(PYTEST) tests/pipeline/system tests/pipeline/datasets/test_prepare.py

test-all: $(DONE) ## Run all tests, with new random inputs each time.
	TEST_SEED=fresh KILLS=30 EDITS=5 $(PYTEST) -m ''
	$(ELSEWHERE) $(PYTEST)

lint: $(DONE) ## Run ruff and mypy.
	ruff check .
	ruff format --check .
	mypy

bench: $(DONE) ## Repeat the measurements of benchmarks/RESULTS.md on this CPU.
	python benchmarks/loading.py
	python benchmarks/prepare_scale.py
	python benchmarks/prepare_copies.py
	python benchmarks/import_nets.py
	python benchmarks/scoring.py
	python benchmarks/merging.py
	python benchmarks/svm_memory.py
	python benchmarks/scaling.py
	python benchmarks/report_scale.py
	KILLS=30 python -m pytest -m '' tests/whole/test_kills.py
	python benchmarks/mini.py

bench-gpu: $(DONE) ## Check this GPU's numerics and measure its speed (five minutes).
	python benchmarks/gpu_check.py --out build/gpu_check

readme: $(DONE) ## Write the results in README.md from reports/evening.
	python -m reports.readme

clean: ## Delete the environment, prepared images, checkpoints, weights and scores.
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache data checkpoints weights scores logs
