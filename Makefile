# Everything in Python runs in .venv. The end-to-end tests, as root on Debian with system packages, build
# a Kubernetes node in ~/.cache/hippo, and leave it running. `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet install
CORES  := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# The demo's stage tree has no work for more workers.
WORKERS ?= $(shell [ $(CORES) -lt 8 ] && echo $(CORES) || echo 8)

DEV_STAMP   := $(VENV)/.installed-dev
DEMO_STAMP  := $(VENV)/.installed-demo
BENCH_STAMP := $(VENV)/.installed-bench
DOCS_STAMP  := $(VENV)/.installed-docs
# The development installation is enough for the demo.
RUN_STAMP  := $(if $(wildcard $(DEV_STAMP)),$(DEV_STAMP),$(DEMO_STAMP))

# Their tables go into docs/benchmarks.md. operator_scale needs root, Linux and the programs that `make programs`
# builds: make bench MEASURED=operator_scale PRINTED=
MEASURED ?= side_by_side savings scheduling asha engine_scale checkpointing store_throughput
# prefix_first and asha replay curves that record_curves.py trained once; the record is in the repository.
PRINTED  ?= planning runner_overhead prefix_first restoring

TIMES ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit programs integration e2e lint type imports bench chaos nightly audit constraints docs release-check cluster-up cluster-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV_STAMP) ## create .venv with everything that development needs

demo: $(RUN_STAMP) ## train a grid of 48 trials through a stage tree, in about two minutes
	@echo "Training the grid of examples/digits/grid.yaml with $(WORKERS) workers; store: build/demo"
	@rm -rf build/demo
	$(BIN)/hippo run examples/digits/grid.yaml --workers $(WORKERS) --store build/demo

# The programs are built in parallel with the checks that need none of them, so that faults in the code show first.
test: $(DEV_STAMP) ## run everything that must pass
	@mkdir -p build; echo "Building the tests' programs meanwhile, if needed: see build/programs.log"
	@$(BIN)/python -m tests.cluster build >build/programs.log 2>&1 & building=$$!; \
	trap 'kill $$building 2>/dev/null || true' EXIT; \
	$(MAKE) --no-print-directory lint type imports audit unit && { wait $$building || true; }
	@$(MAKE) --no-print-directory integration e2e

unit: $(DEV_STAMP) ## run the fast tests: below a minute
	$(BIN)/pytest -q -n 2 -m 'not slow' tests/unit

# Where the build is impossible, the tests that need it say so.
programs: $(DEV_STAMP) ## build the servers and Kubernetes that tests need; 40 minutes, once
	@$(BIN)/python -m tests.cluster build || true

integration: $(DEV_STAMP) programs ## run tests with real processes, stores and trainers
	$(BIN)/pytest -q -n 2 -m slow tests/unit
	$(BIN)/pytest -q -n 4 --dist loadfile tests/integration

e2e: $(DEV_STAMP) programs ## run tests on a real Kubernetes node (Linux, root, Go), or on your own cluster
	$(BIN)/pytest -q -n 3 --dist loadfile tests/e2e

lint: $(DEV_STAMP) ## run ruff
	$(BIN)/ruff check .

type: $(DEV_STAMP) ## run mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy examples

imports: $(DEV_STAMP) ## check the import rules
	$(BIN)/lint-imports

audit: $(DEV_STAMP) ## check installed packages: pinned by hash, compatible, allowed licences
	$(BIN)/pytest -q tests/unit/test_dependencies.py tests/unit/hostile/test_sources.py

constraints: ## pin the dependencies of pyproject.toml again; UPGRADE=--upgrade for the newest versions. Needs uv
	uv pip compile pyproject.toml --all-extras --group build --group docs --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command 'make constraints' \
	  --output-file constraints.txt $(UPGRADE)

# Runs of the same code that build/chaos.json holds are not repeated: a stopped campaign continues.
chaos: $(DEV_STAMP) programs ## inject faults on a real node and locally, each TIMES times, into docs/reliability.md; 1.5 hours on an idle machine
	$(BIN)/python -m tests.chaos --times $(TIMES) --output build/chaos.json $(FAULTS)
	$(BIN)/python -m tests.chaos.report

# In parts: make nightly PART=3/8. Pieces of the same code that build/nightly holds are not repeated.
nightly: $(DEV_STAMP) ## run model checking for 100,000 steps, a day of churn, longer fuzzing, into docs/reliability.md; an hour
	$(BIN)/python -m tests.nightly $(if $(PART),--part $(PART)) $(if $(SEED),--seed $(SEED))
	$(if $(PART),,$(BIN)/python -m tests.nightly.report)

bench: $(BENCH_STAMP) programs ## run the benchmarks, into docs/benchmarks.md; an hour on two quiet cores
	@set -e; for name in $(MEASURED); do echo "== $$name"; \
	  $(BIN)/python -m "benchmarks.$$name" --output "build/bench/$$name.json"; done
	$(BIN)/python -m benchmarks.report
	@set -e; for name in $(PRINTED); do echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

# mkdocs-material announces its successor at each build.
docs: $(DOCS_STAMP) ## build the documentation as an offline site in build/site, and check every link
	$(BIN)/python -m docs.generate.site build/site-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m docs.generate.check build/site

release-check: $(DEV_STAMP) docs ## test every part of a release, and publish nothing: docs/releasing.md
	$(BIN)/python -m tests.release

cluster-up: $(DEV_STAMP) ## start a real Kubernetes node for tests, as root on Linux; the first time takes 40 minutes
	$(BIN)/python -m tests.cluster up

cluster-down: $(DEV_STAMP) ## stop it; what was built is kept
	$(BIN)/python -m tests.cluster down

clean: ## remove build results and .venv
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- installation ----------------------------------------------------------------------------------

# Nothing is installed whose hash is not in constraints.txt. pip is installed first: before version 26 it
# accepted hashes only from the list of requirements. Hippo itself, which has no hash, is installed last.
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
	@echo "Installing the tools that benchmarks compare Hippo with into $(VENV)"
	$(call install,bench)
	@touch $@

$(DOCS_STAMP): $(INSTALLED) | $(BIN)/python
	@echo "Installing the site's tools into $(VENV)"
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
