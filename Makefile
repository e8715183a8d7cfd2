# Everything from a fresh clone. `make` lists the targets. PYTHON selects the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

WORKERS ?= 2
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help repro test test-cluster test-all lint bench bench-gpu readme clean
.DEFAULT_GOAL := help

help: ## List these targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

# The virtual environment, with exactly the tested versions.
$(VENV)/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

repro: $(VENV)/done ## Reproduce everything: all runs, all evaluations, Tables 1 to 10, the report (minutes).
	vgg-repro run --jobs 2
	vgg-repro report --out reports/

# Plain `pytest` runs only the quick tests. WORKERS=8 uses more cores.
test: $(VENV)/done ## Run the tests that a contributor needs (minutes).
	$(PYTEST) -m 'not exhaustive and not cluster'

test-cluster: $(VENV)/done ## Run jobs on a real Slurm on this machine, which root installs with apt (minutes).
	$(PYTEST) -m cluster

test-all: $(VENV)/done ## Run all tests, with new random inputs each time.
	TEST_SEED=fresh KILLS=30 EDITS=5 $(PYTEST) -m ''

lint: $(VENV)/done ## Run ruff and mypy.
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/done ## Repeat the measurements of benchmarks/RESULTS.md on this CPU.
	python benchmarks/loading.py
	python benchmarks/prepare_scale.py
	python benchmarks/prepare_copies.py
	python benchmarks/import_nets.py
	python benchmarks/scoring.py
	python benchmarks/merging.py
	python benchmarks/scaling.py
	python benchmarks/report_scale.py
	KILLS=30 python -m pytest -m '' tests/whole/test_kills.py
	python benchmarks/mini.py

bench-gpu: $(VENV)/done ## Check this GPU's numerics and measure its speed (five minutes).
	python benchmarks/gpu_check.py --out build/gpu_check

readme: $(VENV)/done ## Write the results in README.md from reports/evening.
	python -m reports.readme

clean: ## Delete the environment, prepared images, checkpoints, weights and scores.
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache data checkpoints weights scores logs
