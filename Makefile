# The first that the pinned versions install on; name another by make PYTHON=...
PYTHONS := python3.11 python3.12 python3.13 python3
FITS := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in $(PYTHONS); do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
INSTALLED := $(VENV)/installed
export OMP_NUM_THREADS ?= 1

.PHONY: demo app docs test test-all fuzz kill-test lint audit bench gpu gpu-test matrix

demo: $(INSTALLED)
	$(VENV)/bin/mmseg-siglip demo

app: $(INSTALLED)
	$(VENV)/bin/mmseg-siglip serve

docs: $(INSTALLED)
	$(VENV)/bin/python -m pip install -q -c requirements/constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo work_dirs/site/index.html

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 -q -m 'not slow'

test-all: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 -q

fuzz: $(INSTALLED)
	$(VENV)/bin/python -m tests.fuzz --jobs 2

kill-test: $(INSTALLED)
	$(VENV)/bin/python tests/kills.py --kills 20 --seed 0

bench: $(INSTALLED)
	OMP_NUM_THREADS=$$(nproc) $(VENV)/bin/python benchmarks/sclip.py
	OMP_NUM_THREADS=$$(nproc) $(VENV)/bin/python benchmarks/growth.py

gpu: $(INSTALLED)
	$(VENV)/bin/python benchmarks/gpu.py

gpu-test: $(INSTALLED)
	MMSEG_SIGLIP_TEST_GPU=1 $(VENV)/bin/python -m pytest -n 2 -q -m 'not slow'

matrix: $(INSTALLED)
	$(VENV)/bin/python tests/matrix.py $(NAMES)

lint: audit
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/bandit -q -c pyproject.toml -r mmseg_siglip tools benchmarks

audit: $(INSTALLED)
	$(VENV)/bin/python tests/audit.py

$(INSTALLED): $(wildcard requirements/*.txt) setup.cfg setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11 to 3.13 with venv (Debian and Ubuntu:\
	python3-venv), found none as $(PYTHONS); name one by make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c requirements/constraints.txt -e '.[tests,demo]'
	touch $@
