# Needs Python 3.11 or newer, make and git; every target makes .venv itself and uses it again until a lock
# file changes. `make run` and `make test` are where to begin.

SHELL := bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCKS := requirements-build.lock requirements-dev.lock

.DEFAULT_GOAL := help
.PHONY: help install run test lint check e2e pid1 welcome torture torture-long torture-power abuse abuse-long fuzz fuzz-long \
  mutants mutants-long newest bench bench-smoke bench-profile format generate picture lock dist clean

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## Make .venv with everything the other targets need

$(READY): $(LOCKS) pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, as PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(LOCKS:%=-r %)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY)  ## Show it all: sandbox, daemon, real clients, faults, and the table of what became of the events
	@$(BIN)/python tests/e2e/demo.py

test: $(READY)  ## Unit, contract and integration tests, some minutes
	$(BIN)/python -m pytest -q -n auto --dist worksteal tests --ignore=tests/e2e --ignore=tests/welcome

lint: $(READY)  ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## The same, and unit and contract tests (generated files among them)
	$(BIN)/python -m pytest -q -n auto --dist worksteal tests/unit tests/contract tests/repository

e2e: $(READY)  ## Real clients against real processes
	$(BIN)/python -m tests.e2e.prepare image
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/e2e --ignore=tests/e2e/test_pid1.py

pid1: $(READY)  ## The systemd units in a container of their own, under a real PID 1; needs root (some minutes)
	$(BIN)/python -m pytest -q tests/e2e/test_pid1.py

welcome: $(READY)  ## Every honest client, proxy, configuration and storage is accepted: 0 refusals, a table of all
	$(BIN)/python -m tests.e2e.prepare
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/welcome

# TORTURE has further arguments, such as TORTURE='--seed 7' to repeat a failure.
torture: $(READY)  ## Kills, stops, faults and full disks at random under load, judged from outside, about a minute
	@$(BIN)/python -m tests.torture.run $(TORTURE)

torture-long: $(READY)  ## The same with 1,000,000 events and 200 kills, about half an hour
	@$(BIN)/python -m tests.torture.run --rounds 20 --kills 200 --events 1000000 $(TORTURE)

torture-power: $(READY)  ## Power cuts on an ext4 of its own; needs root and loop devices
	@$(BIN)/python -m tests.torture.power $(TORTURE)

abuse: $(READY)  ## Attacks on a real daemon, each with its figure beside its bound, about four minutes
	@$(BIN)/python -m tests.abuse.run $(ABUSE)

abuse-long: $(READY)  ## The same with more inputs of each kind, and each of them shown
	@$(BIN)/python -m tests.abuse.run --long --say $(ABUSE)

fuzz: $(READY)  ## Nearly good bodies through every dialect, some seconds; FUZZ='--seed 7' for the same again
	@$(BIN)/python -m tests.fuzz.run $(FUZZ)

fuzz-long: $(READY)  ## The same with 1,000,000 bodies, some minutes
	@$(BIN)/python -m tests.fuzz.run --inputs 1000000 --dearest 400 $(FUZZ)

mutants: $(READY)  ## Break each file of the code in one known way; each must turn the tests red
	$(BIN)/python tests/mutants.py --short

mutants-long: $(READY)  ## The same in all known ways, some minutes
	$(BIN)/python tests/mutants.py

# Others by LIBRARIES="'aiohttp==3.14.4' 'aiobotocore==3.9.*'".
LIBRARIES ?= aiobotocore aiohttp
newest: $(READY)  ## Tests with the newest aiobotocore and aiohttp, where they are not the locked ones
	$(BIN)/python tests/newest.py $(LIBRARIES)

# Compare with another commit: `make bench AGAINST=HEAD~1`, of some rows by ROWS='arrays singles', with another
# bound than 1.05 by BOUND=1.1.
ROWS ?=
AGAINST ?=
BOUND ?= 1.05
INTO ?= $(if $(AGAINST)$(ROWS),,docs/benchmarks)
bench: $(READY)  ## What an event costs, beside the naive ways; tables, docs/benchmarks/ (some minutes)
	@$(BIN)/python -m benchmarks $(if $(AGAINST),--against '$(AGAINST)' --bound $(BOUND)) \
	  $(if $(INTO),--into '$(INTO)') $(ROWS)

bench-smoke: $(READY)  ## A few seconds of it; fails only when the forwarder costs twice what it should
	$(BIN)/python -m benchmarks.smoke

bench-profile: $(READY)  ## A flame graph of the daemon under load (needs the right to trace processes)
	$(BIN)/python -m benchmarks.profile docs/benchmarks/flame.svg

format: $(READY)  ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(READY)  ## Write the generated files again: the schema and the references of settings and metrics
	$(BIN)/forwarder check --schema > config/schema.json.new
	mv config/schema.json.new config/schema.json
	$(BIN)/python -m docs.generate

picture: $(READY)  ## The dashboard's panels as a real Prometheus fills them, docs/pictures/ (three minutes)
	$(BIN)/python -m tests.e2e.picture

# uv reads the present lock files, so that only what must change does; `make lock UPGRADE=--upgrade` moves all.
UPGRADE ?=
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(UPGRADE)
lock:  ## Resolve the lock files again (needs uv)
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep=chr(10))' | \
	  $(COMPILE) -o requirements-build.lock -
	$(COMPILE) -o requirements.lock pyproject.toml
	$(COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

dist: $(READY)  ## The wheel and the source package, in dist/
	mkdir -p dist
	$(BIN)/python -c 'from flit_core import buildapi as b; print(b.build_wheel("dist"), b.build_sdist("dist"))'

clean:  ## Remove what the targets above made
	rm -rf $(VENV) .venv-e2e .venv-newest dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
