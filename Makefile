PYTHON ?= python3
BIN := .venv/bin
UV = $(shell command -v uv || echo $(BIN)/uv)

.PHONY: help setup demo test test-full bench check fix catalogue lock

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	# Compiled once here: where PYTHONDONTWRITEBYTECODE is set, every start would compile all of it again, for 12 seconds.
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q features training serving tests tenure.py
	touch $@

setup: .venv/.ready ## Prepare .venv from the lock

demo: setup ## The whole loop on a generated company, in ./demo
	$(BIN)/tenure demo demo

test: setup ## All tests, with reduced counts
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-full: setup ## All tests, with full counts
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

catalogue: setup ## Write features/CATALOGUE.md from the declarations
	$(BIN)/python -m features.catalogue_page > features/CATALOGUE.md

bench: setup ## All benchmarks; `make bench-NAME` for one, CHECK=1 to fail where an aim is missed
	$(BIN)/python -m tests.benchmarks.run $(if $(CHECK),--check)

bench-%: setup
	$(BIN)/python -m tests.benchmarks.run $* $(if $(CHECK),--check)

lock: setup ## Renew requirements.lock from pyproject.toml
	# uv reads no dependency group of a project that it does not manage: it is shown a copy that it does.
	mkdir -p .venv/lock && sed '/^managed = false/d' pyproject.toml > .venv/lock/pyproject.toml
	$(UV) pip compile .venv/lock/pyproject.toml --group .venv/lock/pyproject.toml:dev --universal --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock
