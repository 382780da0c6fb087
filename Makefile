PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/installed
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all kill-test lint bench

demo: $(INSTALLED)
	$(VENV)/bin/python -m mmseg_siglip.demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 -q -m 'not slow'

test-all: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 -q

kill-test: $(INSTALLED)
	$(VENV)/bin/python tests/kills.py --kills 20 --seed 0

bench: $(INSTALLED)
	OMP_NUM_THREADS=$$(nproc) $(VENV)/bin/python benchmarks/sclip.py
	OMP_NUM_THREADS=$$(nproc) $(VENV)/bin/python benchmarks/growth.py

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(INSTALLED): $(wildcard requirements/*.txt) setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c requirements/constraints.txt -e '.[tests,demo]'
	touch $@
