# Everything from a fresh clone: `make repro` reproduces, `make test` tests. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
TABLES := table1 table2 table3 table4 table5 table6 table7 shallow

WORKERS ?= 2
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: repro test test-all lint bench bench-gpu clean
.DEFAULT_GOAL := repro

# The environment, with exactly the tested versions.
$(VENV)/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

repro: $(VENV)/done
	vgg-repro run $(TABLES) --jobs 2
	vgg-repro report --out reports/

# What a contributor needs, in minutes; a bare `pytest` runs the quick ones of it. WORKERS=8 uses more cores.
test: $(VENV)/done
	$(PYTEST) -m 'not exhaustive'

# All there is, with new random inputs each time.
test-all: $(VENV)/done
	TEST_SEED=fresh KILLS=30 EDITS=5 $(PYTEST) -m ''

lint: $(VENV)/done
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/done
	python benchmarks/loading.py
	python benchmarks/prepare_scale.py
	python benchmarks/import_nets.py
	python benchmarks/scaling.py
	KILLS=30 python -m pytest -m '' tests/test_kills.py
	python benchmarks/mini.py

bench-gpu: $(VENV)/done
	python benchmarks/gpu_numerics.py
	python benchmarks/gpu_training.py
	python benchmarks/gpu_scoring.py
	python benchmarks/scaling.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache data checkpoints weights scores
