# All tasks of a checkout; `make help` lists them.
# You need git, make and Python 3.11 or newer. The rest is installed into .venv and node_modules.

PYTHON ?= python3
# Two processes at once, each with its own database engine.
PYTEST_ARGS ?= -n 2 --dist loadfile
LOCK_ARGS ?=
ACCURACY_ARGS ?=
CHAOS_ARGS ?=
FUZZ_ARGS ?=
PREVIEW_ARGS ?=
BENCH_ARGS ?=
INGEST_ARGS ?=
SIZES_ARGS ?= --fleets 10x10x10 50x20x10 100x100x10 1000x100x10 --interval 10 --ticks 2 --repeats 1
REPORTS_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Programs from the venv first, as npm's first line searches the PATH for node.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Locks the public versions for every Python and system, independent of this machine's index.
LOCK := $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" $(LOCK_ARGS)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format lock psql accuracy chaos fuzz picture dashboards dashboards-preview bench performance docs build clean

help: ## List all targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 27

# A stamp file records that a step is done. The step runs again when a prerequisite changes.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'bbbmeter needs Python 3.11 or newer; run: make install PYTHON=python3.13' >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.packages: $(VENV)/.created requirements-dev.lock
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

$(VENV)/.bbbmeter: $(VENV)/.packages pyproject.toml
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Node 20 or newer: the machine's own if it has npm too, else the one from PyPI.
$(VENV)/.node: requirements-node.lock | $(VENV)/.packages
	@$(IN_VENV); command -v npm >/dev/null && \
		node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
		{ set -x; $(PIP) install --require-hashes --requirement requirements-node.lock; }
	@touch $@

%/node_modules/.stamp: %/package.json %/package-lock.json | $(VENV)/.node
	cd $* && $(IN_VENV) npm ci --ignore-scripts --silent
	@touch $@

install: $(VENV)/.bbbmeter embedded/node_modules/.stamp ## Install all dependencies, into this checkout only.

demo: install ## Meter a simulated fleet, with the embedded database.
	$(BIN)/bbbmeter demo

test: lint ## Run all checks and all tests (options for pytest: PYTEST_ARGS=…).
	$(BIN)/pytest $(PYTEST_ARGS)

lint: install grafana/types/node_modules/.stamp ## Check style, types, imports, SQL and spelling.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint schema
	$(BIN)/codespell
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive collector docs grafana
	$(BIN)/python -m grafana.generate --check
	$(IN_VENV) $(BIN)/python -m grafana.types

format: install ## Format the Python code, and fix what ruff can fix.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: install ## Regenerate the lock files from pyproject.toml (to upgrade: LOCK_ARGS=--upgrade).
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	$(BIN)/python -c 'import tomllib; \
		project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*project["optional-dependencies"]["node"], sep="\n")' | \
		$(LOCK) - --output-file requirements-node.lock
	$(BIN)/python docs/tools/generate_sbom.py docs/sbom.cdx.json

# Uses bbbmeter.toml in this folder if it exists, else the settings of the demo.
psql: install ## Open psql on your database, or on the database of the demo.
	$(BIN)/bbbmeter psql --config $(or $(wildcard bbbmeter.toml),demo-data/bbbmeter.toml)

accuracy: install ## Measure the accuracy of the figures, and write docs/accuracy.md (ACCURACY_ARGS="--database DSN").
	$(BIN)/python docs/tools/measure_accuracy.py docs/accuracy.md $(ACCURACY_ARGS)

chaos: install ## Inject faults for 5 minutes, and check for losses (CHAOS_ARGS="--seed 2 --seconds 60").
	$(BIN)/python -m tests.chaos.run $(CHAOS_ARGS)

fuzz: install ## Test the parser with a million hostile answers (FUZZ_ARGS="--cases 100000").
	$(BIN)/python -m tests.fuzz.fuzz_parser $(FUZZ_ARGS)

bench: install ## Measure ingest, parsing, writes, reports and dashboards; results in build/bench (see docs/performance.md).
	$(BIN)/python -m tests.bench.ingest --out build/bench/ingest.json $(INGEST_ARGS)
	$(BIN)/python -m tests.bench.ingest --out build/bench/sizes.json $(SIZES_ARGS)
	$(BIN)/python -m tests.bench.parse --out build/bench/parse.json
	$(BIN)/python -m tests.bench.write --out build/bench/write.json
	$(BIN)/python -m tests.bench.reports --out build/bench/reports.json $(REPORTS_ARGS)
	$(BIN)/python -m tests.bench.dashboards --out build/bench/dashboards.json $(BENCH_ARGS)

performance: install ## Draw the plots of docs/performance.md from the results of make bench.
	$(BIN)/python docs/tools/draw_performance.py build/bench/reports.json build/bench/sizes.json

picture: install ## Regenerate the README's picture of a report.
	$(BIN)/python docs/tools/draw_report.py

dashboards: install ## Generate Grafana's dashboards and alerts from code.
	$(BIN)/python -m grafana.generate

dashboards-preview: install grafana/preview/node_modules/.stamp ## Render the dashboards with invented data, into build/preview.
	$(IN_VENV) $(BIN)/python -m grafana.preview build/preview $(PREVIEW_ARGS)

docs: install ## Generate docs/settings.md from the descriptions of the settings.
	$(BIN)/python docs/tools/generate_settings.py

build: install ## Build the wheel and the source archive in dist/.
	$(BIN)/python -m build --no-isolation

clean: ## Remove installed, built and cached files; data remain.
	rm -rf $(VENV) embedded/node_modules grafana/*/node_modules build dist \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
