# Assay's commands. Python 3.11 or newer and make are all they need, and Go for `make tools`; `make help` lists them.
# Another interpreter: `make PYTHON=python3.13 test`.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV_VERSION := 0.13.9
UV_COMPILE := .tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(UPGRADE) pyproject.toml requirements/build.in
FAST_TESTS = $(wildcard tests/architecture tests/unit tests/property tests/vectors)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test check tools soak bench openapi migrate lock audit

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run.stamp  ## start Assay on its embedded default and say what to try
	$(BIN)/assay dev

demo: .venv/run.stamp  ## play the story: pay, prove, tamper, erase
	$(BIN)/python scripts/demo

test: .venv/dev.stamp  ## every test, PostgreSQL and OPA included, and the coverage floors
	@$(PYTHON) -m scripts.tools || echo 'Tests that need them are skipped, and named at the end.'
	$(BIN)/pytest -n 3 --cov --cov-report=
	$(BIN)/coverage report --skip-covered --skip-empty
	$(BIN)/coverage report --include='app/tlog/*' --fail-under=100

check: .venv/dev.stamp  ## style, types, layers and the fast tests, in under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 -m 'not slow' $(FAST_TESTS)

tools:  ## build opa and regal into .tools/bin, for tests and policy authors; needs Go
	@$(PYTHON) -m scripts.tools

soak: .venv/dev.stamp  ## the long runs: kill -9 at every step, load, restarts
	$(BIN)/python scripts/soak

bench: .venv/bench.stamp  ## measure the table of docs/performance.md
	$(BIN)/python scripts/bench

openapi: .venv/dev.stamp  ## write docs/openapi.json from the application
	$(BIN)/python -m scripts.openapi

migrate: .venv/run.stamp  ## bring the configured database to the newest schema
	$(BIN)/assay migrate

lock: .tools/bin/uv  ## lock versions and hashes in requirements/; UPGRADE=--upgrade takes the newest
	$(UV_COMPILE) -o requirements/run.txt
	$(UV_COMPILE) --extra dev -c requirements/run.txt -o requirements/dev.txt
	$(UV_COMPILE) --extra dev --extra bench -c requirements/dev.txt -o requirements/bench.txt

audit: .venv/dev.stamp  ## known vulnerabilities of the locked packages; needs the advisory service
	@echo "Asks the package index's advisory service by network. Behind a mirror without that service this fails:"
	@echo "read the failure as 'not checked', never as 'nothing found' (docs/dependencies.md)."
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/run.txt

# Each stamp is redone when its lock or the project's metadata changes; a later one adds to the same environment.
.venv/run.stamp .venv/dev.stamp .venv/bench.stamp: .venv/%.stamp: requirements/%.txt pyproject.toml | .venv
	@echo 'Installing the packages of $< (a minute or so) …'
	@$(PIP) install --require-hashes --no-deps -r $<  # the lock is complete: resolving again would look for newer versions
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Assay needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $@ || { rm -rf $@; exit 1; }

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip --quiet install uv==$(UV_VERSION)
