# Every target sets up what it needs in .venv, and does so again only when
# pyproject.toml or constraints.txt has changed.

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP_INSTALL := $(PY) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
EDITABLE := $(PIP_INSTALL) --editable
EXAMPLES := tests/backends/test_examples.py

# The first Python that is new enough makes the venv; `make PYTHON=... demo` takes another.
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& echo $$python && break; done)

export MPLBACKEND := Agg
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint imports types docs tests examples format face \
	nightly versions mutants bench clean

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# --- set-up -----------------------------------------------------------------

setup: $(VENV)/.ready-dev ## Make .venv with all that the checks need

$(PY):
	@test -n "$(PYTHON)" || { echo "daglite needs Python 3.10 or newer; found none" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(PY)
	$(EDITABLE) '.[examples,progress]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(PY)
	$(EDITABLE) '.[dev]'
	@touch $(VENV)/.ready-demo $@

$(VENV)/.ready-bench: pyproject.toml constraints.txt | $(PY)
	$(EDITABLE) '.[benchmarks,progress]'
	@touch $@

$(VENV)/.ready-mutants: pyproject.toml constraints.txt | $(PY)
	$(EDITABLE) '.[mutants,progress]'
	@touch $@

# --- to look at -------------------------------------------------------------

demo: $(VENV)/.ready-demo ## Run the flights example on real data
	$(PY) examples/flights/run.py

bench: $(VENV)/.ready-bench ## Measure daglite against its peers
	$(PY) -m benchmarks

# --- the checks, in the order of their cost ---------------------------------

test: lint imports types docs tests examples ## Run all checks

lint: $(VENV)/.ready-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: $(VENV)/.ready-dev ## import-linter: the floors
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.ready-dev ## mypy --strict and pyright
	$(BIN)/mypy --strict src tests/typing
	$(BIN)/basedpyright --pythonpath $(PY)

docs: $(VENV)/.ready-dev ## Build the docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

tests: $(VENV)/.ready-dev ## pytest, with branch coverage; real threads once more without
	$(BIN)/pytest --ignore=$(EXAMPLES) --cov --cov-report=term
	$(BIN)/pytest --ignore=$(EXAMPLES) tests/backends

examples: $(VENV)/.ready-dev ## Run every example, and each benchmark once, untimed
	$(BIN)/pytest $(EXAMPLES)
	$(PY) -m benchmarks --check

# --- on demand --------------------------------------------------------------

format: $(VENV)/.ready-dev ## Let ruff put the files in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

face: $(VENV)/.ready-dev ## Write the list of public names again
	$(PY) tests/test_face.py --write

nightly: $(VENV)/.ready-dev versions ## The long forms of the tests, every Python, mutants
	$(BIN)/pytest -m nightly --timeout=1800
	$(MAKE) mutants

versions: $(VENV)/.ready-dev ## The tests on every Python that is here (nox)
	$(BIN)/nox

mutants: $(VENV)/.ready-mutants ## Change the code; see whether the tests notice 90 % of it
	$(PY) tools/mutants

clean: ## Remove everything that the targets made
	rm -rf $(VENV) .nox build dist docs/_build htmlcov .coverage .coverage.* .mutants.json \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests docs examples benchmarks tools -name __pycache__ -type d -prune \
		-exec rm -rf {} + 2>/dev/null || true
