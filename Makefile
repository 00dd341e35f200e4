# make up     start a throwaway host with the bots      make test   run every test
# make down   remove everything that these created      make help   list all targets
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/clawd-provision
TESTED_WITH := CLAWD_TEST_MODEL,CLAWD_TEST_NGINX,CLAWD_TEST_PROMTOOL,CLAWD_TEST_AMTOOL,CLAWD_TEST_POSTGRES
TESTED_WITH := $(TESTED_WITH),CLAWD_TEST_QEMU,CLAWD_TEST_NODE_MODULES,CLAWD_TEST_SSHD,CLAWD_TEST_BROWSER
# Logs of programs started by make, and temporary folders of tests; separate for each checkout, removed by `make down`.
BUILD := $(CURDIR)/.build
# Tests start hundreds of Python programs; without its cached bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
export XDG_STATE_HOME := $(BUILD)/state
export PYTEST_DEBUG_TEMPROOT := /tmp/clawd-$(shell pwd | cksum | cut -d ' ' -f 1)
KEPT := CLAWD_CACHE,PYTEST_DEBUG_TEMPROOT,$(TESTED_WITH)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=$(KEPT) XDG_STATE_HOME=$(BUILD)/state-of-root)
PACKAGES := python3-venv gcc g++ mmdebstrap systemd-container nftables openssh-client
# Programs that tests run, unpacked from these packages; their libraries and further tools are below.
TOOLS := nginx openssh-server prometheus prometheus-alertmanager postgresql-15 qemu-user
LIBRARIES := dpkg-dev e2fsprogs fdisk gpg gpg-agent xfsprogs \
    libcapstone4 libglib2.0-0 libgnutls30 libgssapi-krb5-2 libicu72 libldap-2.5-0 libnuma1 libpcre2-8-0 libpq5 \
    liburing2 libwrap0 libxml2 tzdata
BROWSER := chromium chromium-common fonts-wqy-microhei
# Debian's npm needs nodejs; other distributions of Node.js include npm.
NODE := $(if $(shell command -v npm),,nodejs npm)
QUESTION := What is the capital of France?
MODEL := .sandbox/models/smollm2-135m-q8_0.gguf
# Tests run in several processes, each with the paths of its name. gevent patches a whole process: code on gevent
# (deploys, provision) and code on asyncio are never tested in the same one. The longest begin first.
deploys := -p no:anyio tests/deploys tests/docs
provision := -p no:anyio tests/provision
program := tests --ignore=tests/provision --ignore=tests/deploys --ignore=tests/docs
runtime := runtime/tests
UNITS := runtime deploys program provision
ON_HOSTS := $(addprefix hosts-of-,deploys program provision)
# On hosts, these take their turn with tests/provision, so that the parts end at about the same time.
WITH_PROVISION := $(addprefix tests/deploys/,database disk docker hardening)
on-hosts-deploys := $(deploys) $(addprefix --ignore=,$(WITH_PROVISION))
on-hosts-program := $(program)
on-hosts-provision := $(provision) $(WITH_PROVISION)
JOBS ?= $(shell expr $$(nproc) + 2)
# For make up: number of hosts, and their release (one for all, or one for each).
HOSTS ?= 1
RELEASE ?=
INVENTORY := $(if $(filter-out 1,$(HOSTS)),.sandbox/inventory.yml,sandbox)
# For make down: `keep` keeps the cache, which contains the engine that takes minutes to build.
CACHE ?= remove
CACHED := digests engine locks models partial releases sandbox toolbox wheels
# For molecule/.
SCENARIOS ?= default cluster
export CLAWD_TEST_NGINX ?= $(CURDIR)/$(VENV)/tools/usr/sbin/nginx
export CLAWD_TEST_PROMTOOL ?= $(CURDIR)/$(VENV)/tools/usr/bin/promtool
export CLAWD_TEST_AMTOOL ?= $(CURDIR)/$(VENV)/tools/usr/bin/amtool
export CLAWD_TEST_POSTGRES ?= $(CURDIR)/$(VENV)/tools/usr/lib/postgresql/15/bin
export CLAWD_TEST_QEMU ?= $(CURDIR)/$(VENV)/tools/usr/bin/qemu-x86_64
export CLAWD_TEST_NODE_MODULES ?= $(CURDIR)/$(VENV)/node/node_modules
export CLAWD_TEST_BROWSER ?= $(CURDIR)/$(VENV)/browser
export CLAWD_TEST_SSHD ?= $(CURDIR)/$(VENV)/tools/usr/sbin/sshd
export CLAWD_CACHE ?= $(HOME)/.cache/clawd-provision
export CLAWD_TEST_MODEL ?= $(CURDIR)/$(MODEL)

.PHONY: help up down test test-quick test-hosts test-browser campaign lint types packages lock clean docs reference
.PHONY: $(addprefix test-,$(UNITS) $(ON_HOSTS)) $(addprefix quick-,$(UNITS)) bench-commands bench-up bench-artifacts bench-engine
.DEFAULT_GOAL := help

help:                 ## list these targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## */\t/' | expand -t 16

# Only `make up` counts its steps, because other targets have further ones.
step = $(if $(filter up,$(MAKECMDGOALS)),step $(1) of 5: )

# What pip prints, as one line that counts its packages.
define PIP_PROGRESS
/^Collecting / && terminal { printf "\r\033[Kdownloading package %d of %d", ++n, total; fflush() }
/^Installing / && terminal { printf "\r\033[Kinstalling %d packages", total; fflush() }
END { if (terminal) printf "\r\033[K" }
endef
export PIP_PROGRESS

$(VENV)/.installed: requirements.lock pyproject.toml | packages
	@echo "$(call step,1)creating the environment, about 1 minute"
	@$(PYTHON) -m venv $(VENV)
	@awk '/^llama-cpp-python==/ {skip = 1; next} /^[a-z]/ {skip = 0} !skip' requirements.lock > $(VENV)/wheels.lock
	@{ $(BIN)/pip install --progress-bar off --disable-pip-version-check --require-hashes --no-deps \
	    -r $(VENV)/wheels.lock 2> $(BUILD)/pip.txt || { cat $(BUILD)/pip.txt >&2; exit 1; }; } \
	    | awk -v total="$$(grep -c '^[a-z]' $(VENV)/wheels.lock)" -v terminal="$$(test -t 2 && echo 1)" "$$PIP_PROGRESS"
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable runtime
	@touch $@

.PHONY: scratch
scratch:
	@mkdir -p $(BUILD) $(PYTEST_DEBUG_TEMPROOT)

packages: scratch

packages:             ## install the Debian packages that the sandbox and the build need
	@missing=$$(dpkg-query -W -f='$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>&1 | grep -v ' installed$$' || true); \
	if [ -n "$$missing" ]; then \
	    echo "installing Debian packages: $(PACKAGES)"; \
	    $(SUDO) apt-get update -qq && \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PACKAGES) >/dev/null && \
	    echo "$$missing" | sed -E 's/^dpkg-query: .* //; s/ .*//' >> $(BUILD)/packages; \
	fi

# Only the programs, without the services that their packages would start on this machine.
$(VENV)/tools: Makefile | $(VENV)/.installed
	@$(MAKE) --no-print-directory packages PACKAGES="$(PACKAGES) $(LIBRARIES)"
	@rm -rf $@.new && mkdir -p $@.new/packages && cd $@.new/packages && \
	    (apt-get download -qq $(TOOLS) 2>/dev/null || { $(SUDO) apt-get update -qq && apt-get download -qq $(TOOLS); }) && \
	    for package in *.deb; do dpkg --extract "$$package" ..; done
	@rm -rf $@.new/packages $@ && mv $@.new $@

# Chromium with what it needs and this machine lacks, and a font with Chinese; about 120 MB to download.
$(VENV)/browser: Makefile | $(VENV)/.installed
	@rm -rf $@.new && mkdir -p $@.new/packages && cd $@.new/packages && $(SUDO) apt-get update -qq && \
	    missing=$$(apt-get install -s --no-install-recommends $(BROWSER) | sed -n 's/^Inst \([^ ]*\).*/\1/p') && \
	    apt-get download -qq $$(printf '%s\n' $(BROWSER) $$missing | sort -u) 2>/dev/null && \
	    for package in *.deb; do dpkg --extract "$$package" ..; done
	@rm -rf $@.new/packages $@ && mv $@.new $@

# Third-party clients at the versions of tests/node/package-lock.json; their install scripts do not run.
$(VENV)/node: tests/node/package-lock.json Makefile | $(VENV)/.installed $(VENV)/tools
	@$(MAKE) --no-print-directory packages PACKAGES="$(PACKAGES) $(NODE)"
	@rm -rf $@.new && mkdir -p $@.new && cp tests/node/package.json tests/node/package-lock.json tests/node/.npmrc $@.new/
	@cd $@.new && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@rm -rf $@ && mv $@.new $@ && touch $@

# Another recipe makes another engine.
$(VENV)/.engine: $(VENV)/.installed provision/artifacts/engine/recipe.py provision/artifacts/engine/scripts/build.sh
	@echo "$(call step,2)the engine (llama.cpp), 2 to 3 minutes when it is not in the cache"
	@$(BIN)/python -m provision.artifacts engine-wheel --print-path > $(VENV)/engine-wheel.path
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --force-reinstall "$$(cat $(VENV)/engine-wheel.path)"
	@touch $@

# With every variant for processors, which tests run in emulators.
$(VENV)/.engine-for-all: $(VENV)/.engine
	@$(BIN)/python -m provision.artifacts engine-wheel --all-processors --print-path > $(VENV)/engine-wheel.path
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --force-reinstall "$$(cat $(VENV)/engine-wheel.path)"
	@touch $@

$(MODEL): | $(VENV)/.engine
	@echo "$(call step,3)the model"
	@$(BIN)/python -m provision.artifacts sandbox-model $@

# `up` ends with the checks and a question to the bot; its plan of a new host fills many screens.
up: packages $(VENV)/.engine $(MODEL)   ## start throwaway Debian hosts with the bots and a real model (HOSTS=2 RELEASE=trixie)
	@echo "$(call step,4)starting the host"
	@$(SUDO) $(RUN) sandbox up --hosts $(HOSTS) $(addprefix --release ,$(RELEASE)) > $(BUILD)/up.txt
	@echo "$(call step,5)setting it up, about 1 minute"
	@$(RUN) up --inventory $(INVENTORY) --yes >> $(BUILD)/up.txt || { status=$$?; cat $(BUILD)/up.txt; exit $$status; }
	@echo; grep 'checks passed' $(BUILD)/up.txt || true
	@$(RUN) sandbox status
	@echo; echo "you> $(QUESTION)"
	@printf 'bot> '; $(RUN) chat --inventory $(INVENTORY) --message "$(QUESTION)"
	@echo; echo "Chat in the browser with this link; it works once, within an hour:"
	@$(RUN) console link --inventory $(INVENTORY) --minutes 60
	@echo; echo "Try:   $(RUN) chat -i $(INVENTORY)      talk to the bot in the terminal"
	@echo "       $(RUN) console link -i $(INVENTORY)    another link for the browser"
	@echo "       $(RUN) sandbox ssh          look around on the host"
	@echo "       $(RUN) plan -i $(INVENTORY)      after a change of inventory/sandbox.yml: what \`up\` would do"
	@echo; echo "What was set up is listed in $(BUILD)/up.txt. \`make down\` removes it all."

# Uses Python alone, because the virtual environment may have been removed while hosts still run.
down:                 ## remove everything that make up and make test created (CACHE=keep: except the cache)
	@$(SUDO) $(PYTHON) -B -m provision.sandbox down
	@if [ -s $(BUILD)/packages ]; then \
	    echo "Debian packages that were installed stay; to remove them:"; \
	    echo "    sudo apt-get purge --auto-remove $$(sort -u $(BUILD)/packages | paste -sd ' ')"; \
	fi
	@$(MAKE) --no-print-directory clean
	@$(SUDO) rm -rf inventory/.clawd/sandbox $(VENV) $(BUILD) $(PYTEST_DEBUG_TEMPROOT)
	@rmdir inventory/.clawd 2>/dev/null || true
ifeq ($(CACHE),keep)
	@echo "kept: $(CLAWD_CACHE) (the engine, minutes to build); \`make down\` removes it, too"
else
	@$(if $(CLAWD_CACHE),$(SUDO) rm -rf $(addprefix $(CLAWD_CACHE)/,$(CACHED)); rmdir $(CLAWD_CACHE) 2>/dev/null || true)
endif

# What needs the engine or hosts starts when the engine is built; until then run lint, types and unit tests.
# Hosts mostly wait, so that more parts run at once than there are processors.
test: packages                ## run every test except the campaigns
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) $(addprefix test-,$(ON_HOSTS) $(UNITS)) lint types

test-quick: $(VENV)/tools $(VENV)/node   ## run the tests that need neither a host nor the engine (minutes)
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) $(addprefix quick-,$(UNITS))

test-hosts:                   ## run the tests on throwaway hosts
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) $(addprefix test-,$(ON_HOSTS))

$(addprefix test-,$(ON_HOSTS)): test-hosts-of-%: packages $(VENV)/.engine $(VENV)/tools $(VENV)/node $(MODEL) | scratch
	@$(SUDO) $(BIN)/pytest -q -m "host and not campaign" $(on-hosts-$*) 2>&1 | sed -u 's/^/hosts of $*: /'

test-deploys test-provision: test-%: $(VENV)/tools $(VENV)/node | scratch
	@$(SUDO) $(BIN)/pytest -q -m "not host and not campaign" $($*) 2>&1 | sed -u 's/^/$*: /'

test-program: $(VENV)/.engine $(VENV)/tools $(VENV)/node $(MODEL) | scratch
	@$(SUDO) $(BIN)/pytest -q -m "not host and not campaign" $(program) 2>&1 | sed -u 's/^/program: /'

test-runtime: $(VENV)/.engine $(VENV)/tools $(VENV)/node $(MODEL) | scratch
	@$(BIN)/pytest -q -m "not campaign" $(runtime) 2>&1 | sed -u 's/^/runtime: /'

$(addprefix quick-,$(UNITS)): quick-%: | scratch
	@$(BIN)/pytest -q -m "not host and not model and not slow and not campaign" $($*) 2>&1 | sed -u 's/^/$*: /'

test-browser: $(VENV)/tools $(VENV)/node $(VENV)/browser | scratch   ## run the tests of the page in headless Chromium
	@$(BIN)/pytest -q -p no:anyio -m campaign tests/deploys/page

campaign: packages $(VENV)/.engine-for-all $(VENV)/tools $(VENV)/node $(VENV)/browser $(MODEL)   ## run long tests: clusters under load, kills, every component on hosts
	@$(BIN)/pytest -q -m campaign runtime/tests
	@$(SUDO) $(BIN)/pytest -q -m campaign $(deploys) $(provision)
	@$(SUDO) $(BIN)/pytest -q -m campaign $(program)

bench-commands: $(VENV)/.installed   ## measure how long commands take before they connect
	@$(BIN)/python -m benchmarks.command_line

bench-up: $(VENV)/.installed   ## measure `up` on hosts that are as declared already (INVENTORY=sandbox)
	@$(BIN)/python -m benchmarks.second_up $(INVENTORY)

bench-artifacts: $(VENV)/.installed   ## measure how fast files of models are hashed
	@$(BIN)/python -m benchmarks.artifacts

bench-engine: $(VENV)/.engine $(MODEL)   ## compare the engine with llama-server and others, on a quiet machine
	@$(BIN)/python -m benchmarks.engine $(MODEL) --page docs/explanation/engine-figures.md

# Shell programs, and what templates of such render to.
lint: $(VENV)/.installed   ## run ruff and shellcheck
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@find deploys provision -path '*/scripts/*.sh' -print0 | xargs -0 $(BIN)/shellcheck --external-sources
	@find tests/deploys -path '*/golden/*' -type f -exec grep -lZ -e '^#!/bin/sh' {} + | \
	    xargs -0 $(BIN)/shellcheck --shell=sh $$(find tests/deploys -path '*/golden/*.sh')

types: $(VENV)/.installed  ## run mypy in strict mode
	@$(BIN)/mypy cli.py commands inventory provision deploys docs/generator benchmarks runtime/clawd_runtime tests runtime/tests

docs: $(VENV)/.installed   ## the documentation as a site, in .build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "to read it, with search: python3 -m http.server --bind 127.0.0.1 --directory .build/site 8000"

reference: $(VENV)/.installed   ## write docs/reference/ and inventory/schema.json from the code
	@$(BIN)/python -m docs.generator
	@$(BIN)/python -m inventory.json_schema

lock:                 ## resolve the lock files again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    -o runtime/requirements.lock runtime/pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    --group dev -o requirements.lock pyproject.toml runtime/pyproject.toml

$(VENV)/molecule/.installed: molecule/requirements.lock | $(VENV)/.installed
	@$(PYTHON) -m venv $(VENV)/molecule
	@$(VENV)/molecule/bin/pip install -qq --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.PHONY: molecule
molecule: packages $(VENV)/.engine $(MODEL) $(VENV)/molecule/.installed   ## set up fresh hosts, check that a second run changes nothing, verify (minutes)
	@for scenario in $(SCENARIOS); do \
	    $(SUDO) env PATH="$(CURDIR)/$(VENV)/molecule/bin:$$PATH" LC_ALL=C.UTF-8 CLAWD_CACHE="$(CLAWD_CACHE)" \
	        molecule test --scenario-name $$scenario || exit 1; \
	done

clean:                ## remove caches of tools, including root's
	@$(SUDO) find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .pytest_cache -o -name .mypy_cache \
	    -o -name .ruff_cache -o -name .hypothesis -o -name '*.egg-info' \) -prune -exec rm -rf {} +
