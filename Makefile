# Everything starts from a bare machine with Python >= 3.11 and make: the environment .venv is made when first needed.
# PYTHON=/path/to/python3.12 chooses the interpreter. Nothing is written outside this folder.

SHELL := /bin/sh
export PYTHON
export MPLBACKEND ?= Agg
export MPLCONFIGDIR ?= $(CURDIR)/.venv/matplotlib
export LOSSFLOW_CACHE ?= $(CURDIR)/.cache/lossflow

setup = @python=$$(sh tools/find-python) && "$$python" tools/environment.py
python = .venv/bin/python

.PHONY: help report test slow bench docs lint types clean
help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

report: ## the main job: figures, theory against experiment, in report/index.html
	$(setup)
	@.venv/bin/lossflow report

test: ## all tests but the slow batteries
	$(setup) dev
	@OPENBLAS_NUM_THREADS=1 $(python) -m pytest -n 2 --dist loadfile

slow: ## the batteries that take minutes
	$(setup) dev
	@$(python) -m pytest -m slow

bench: ## the named benchmarks, timed, or some: only="limits sweep"
	$(setup) dev
	@$(python) tools/bench.py $(only)

docs: ## the documentation site, every example run, in site/index.html
	$(setup) docs
	@OPENBLAS_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --quiet --strict

lint: ## style and formatting
	$(setup) dev
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .

types: ## static types
	$(setup) dev
	@.venv/bin/basedpyright

clean: ## remove all that was made here, the environment included
	rm -rf .venv .cache report .ruff_cache .pytest_cache .hypothesis .benchmarks site dist build
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
