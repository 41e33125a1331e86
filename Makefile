# Python happens in .venv. The end-to-end tests build a Kubernetes node, as root on Debian with packages
# of the system, into ~/.cache/hippo, and leave it running. `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet install
CORES  := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# More workers than this have nothing to do in the demo's stage tree.
WORKERS ?= $(shell [ $(CORES) -lt 8 ] && echo $(CORES) || echo 8)

DEV_STAMP   := $(VENV)/.installed-dev
DEMO_STAMP  := $(VENV)/.installed-demo
BENCH_STAMP := $(VENV)/.installed-bench
DOCS_STAMP  := $(VENV)/.installed-docs
# What is installed for development is enough for the demo.
RUN_STAMP  := $(if $(wildcard $(DEV_STAMP)),$(DEV_STAMP),$(DEMO_STAMP))

# Their tables go into docs/benchmarks.md; operator_scale (root, Linux, what the node's tests build) as well:
# make bench MEASURED=operator_scale PRINTED=
MEASURED ?= side_by_side savings scheduling asha engine_scale checkpointing store_throughput
# record_curves.py trains what prefix_first and asha replay; its record is kept.
PRINTED  ?= planning runner_overhead prefix_first restoring

TIMES ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit programs integration e2e lint type imports bench chaos nightly audit constraints docs release-check cluster-up cluster-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV_STAMP) ## make .venv with all that development needs

demo: $(RUN_STAMP) ## train a grid of 48 trials through a stage tree, in about two minutes
	@echo "Training the grid of examples/digits/grid.yaml with $(WORKERS) workers; store: build/demo"
	@rm -rf build/demo
	$(BIN)/hippo run examples/digits/grid.yaml --workers $(WORKERS) --store build/demo

# What tests need is built beside the checks that need none of it, so that a fault in the code shows first.
test: $(DEV_STAMP) ## everything that has to pass
	@mkdir -p build; echo "Programs of the tests: built meanwhile if need be, see build/programs.log"
	@$(BIN)/python -m tests.cluster build >build/programs.log 2>&1 & building=$$!; \
	trap 'kill $$building 2>/dev/null || true' EXIT; \
	$(MAKE) --no-print-directory lint type imports audit unit && { wait $$building || true; }
	@$(MAKE) --no-print-directory integration e2e

unit: $(DEV_STAMP) ## the fast tests: below a minute
	$(BIN)/pytest -q -n 2 -m 'not slow' tests/unit

# Where it cannot be, the tests that need it say so.
programs: $(DEV_STAMP) ## what tests need beside Python: servers, Kubernetes; 40 minutes, once
	@$(BIN)/python -m tests.cluster build || true

integration: $(DEV_STAMP) programs ## tests with real processes, stores and trainers
	$(BIN)/pytest -q -n 2 -m slow tests/unit
	$(BIN)/pytest -q -n 4 --dist loadfile tests/integration

e2e: $(DEV_STAMP) programs ## tests on a real Kubernetes node (Linux, root, Go), or on a cluster of yours
	$(BIN)/pytest -q -n 3 --dist loadfile tests/e2e

lint: $(DEV_STAMP) ## ruff
	$(BIN)/ruff check .

type: $(DEV_STAMP) ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy examples

imports: $(DEV_STAMP) ## who may import whom
	$(BIN)/lint-imports

audit: $(DEV_STAMP) ## what is installed: pinned by hashes, fitting together, licences
	$(BIN)/pytest -q tests/unit/test_dependencies.py tests/unit/hostile/test_sources.py

constraints: ## pin anew what pyproject.toml asks for; UPGRADE=--upgrade: the newest of all. Needs uv
	uv pip compile pyproject.toml --all-extras --group build --group docs --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command 'make constraints' \
	  --output-file constraints.txt $(UPGRADE)

# Runs that build/chaos.json holds, of the same code, are not repeated: what was stopped goes on.
chaos: $(DEV_STAMP) programs ## faults on a real node and locally, each TIMES times, into docs/reliability.md; 1.5 hours alone
	$(BIN)/python -m tests.chaos --times $(TIMES) --output build/chaos.json $(FAULTS)
	$(BIN)/python -m tests.chaos.report

# In parts: make nightly PART=3/8. Pieces that build/nightly holds, of the same code, are not repeated.
nightly: $(DEV_STAMP) ## model checking for 100,000 steps, a day of churn, longer fuzzing, into docs/reliability.md; an hour
	$(BIN)/python -m tests.nightly $(if $(PART),--part $(PART)) $(if $(SEED),--seed $(SEED))
	$(if $(PART),,$(BIN)/python -m tests.nightly.report)

bench: $(BENCH_STAMP) programs ## the benchmarks, into docs/benchmarks.md; an hour on two quiet cores
	@set -e; for name in $(MEASURED); do echo "== $$name"; \
	  $(BIN)/python -m "benchmarks.$$name" --output "build/bench/$$name.json"; done
	$(BIN)/python -m benchmarks.report
	@set -e; for name in $(PRINTED); do echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

# mkdocs-material tells at each build that it has a successor.
docs: $(DOCS_STAMP) ## the documentation as a site in build/site: every link checked, to be read offline
	$(BIN)/python -m docs.generate.site build/site-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m docs.generate.check build/site

release-check: $(DEV_STAMP) docs ## try all of a release, and publish nothing: docs/releasing.md
	$(BIN)/python -m tests.release

cluster-up: $(DEV_STAMP) ## start a real Kubernetes node for tests, as root on Linux; the first time takes 40 minutes
	$(BIN)/python -m tests.cluster up

cluster-down: $(DEV_STAMP) ## stop it; what was built is kept
	$(BIN)/python -m tests.cluster down

clean: ## remove what was built, and .venv
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- installation ----------------------------------------------------------------------------------

# Nothing is installed whose hash is not in constraints.txt. pip goes first: before 26 it would take
# hashes from nowhere else than the list of what to install. Then Hippo itself, which has none.
INSTALLED := pyproject.toml constraints.txt requirements.py
define install
	@$(BIN)/python requirements.py --pinned pip > $(VENV)/requirements.txt
	@$(PIP) --require-hashes -r $(VENV)/requirements.txt
	@$(BIN)/python requirements.py build project $(1) > $(VENV)/requirements.txt
	$(PIP) --require-hashes -c constraints.txt -r $(VENV)/requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
endef

$(DEV_STAMP): $(INSTALLED) | $(BIN)/python
	@echo "Installing Hippo and its tools into $(VENV) (PyTorch is large: a few minutes)"
	$(call install,dev torch examples optuna operator)
	@touch $@

$(BENCH_STAMP): $(DEV_STAMP)
	@echo "Installing what the benchmarks compare Hippo with into $(VENV)"
	$(call install,bench)
	@touch $@

$(DOCS_STAMP): $(INSTALLED) | $(BIN)/python
	@echo "Installing what the site is built with into $(VENV)"
	$(call install,docs)
	@touch $@

$(DEMO_STAMP): $(INSTALLED) | $(BIN)/python
	@echo "Installing Hippo into $(VENV) (PyTorch is large: a few minutes)"
	$(call install,torch examples)
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found: install Python 3.11 or newer, or say which: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Hippo needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); say which to use: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
