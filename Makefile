# make demo · make test · make docs · make bench: each sets everything up if it is missing.
# make faults N=50 SEED=0: the fault table of docs/reliability.md with so many tries; `make test` makes a few of them.
# make release-check: builds both distributions into dist/, and uses them in empty environments; docs/releases.md.
# make bench DATA=folder: what needs data runs too; the folder holds mnist or magnetic_tile.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test faults lint docs figures bench bench-peers release-check clean

setup: $(VENV)/.installed

# pip with the constraints file: the versions this project is tested with
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ganomaly needs Python 3.11 or newer; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	rm -rf demo
	$(BIN)/ganomaly demo --out demo

test: setup lint docs
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

N ?= 50
SEED ?= 0
faults: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[faults]'
	GANOMALY_FAULTS=$(N) GANOMALY_FAULTS_SEED=$(SEED) OMP_NUM_THREADS=1 $(BIN)/pytest -m faults -s tests/faults tests/service

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src
	$(BIN)/python .ci/audit_dependencies.py
	$(BIN)/python .ci/check_changelog.py

# The site: docs/_build/html/index.html. Each warning is an error; what was generated before is removed first.
docs: setup
	rm -rf docs/_build docs/api
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build/html

# The images of the README, made again from a new demo; needs Chromium and some minutes.
figures: demo
	$(BIN)/python docs/figures/make.py

bench: setup
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA))

# Beside anomalib, which gets an environment of its own in the user's cache; half an hour on two idle processors.
bench-peers: setup
	$(BIN)/python benchmarks/peers.py

release-check: setup
	OMP_NUM_THREADS=1 $(BIN)/python .ci/check_release.py

clean:
	rm -rf $(VENV) dist demo docs/_build docs/api .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
