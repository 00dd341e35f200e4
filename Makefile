# make up     a throwaway host that serves the bots     make test   every test
# make down   removes everything these made              make help   the rest
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/clawd-provision
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=CLAWD_CACHE,CLAWD_TEST_MODEL,CLAWD_TEST_NGINX)
PACKAGES := python3-venv gcc g++ mmdebstrap systemd-container nftables openssh-client
MODEL := .sandbox/models/smollm2-135m-q8_0.gguf
# gevent patches a whole process, so what runs on it is tested apart from what runs on asyncio.
COOPERATIVE := tests/provision tests/deploys
PLAIN := tests --ignore=tests/provision --ignore=tests/deploys
# Of molecule/.
SCENARIOS ?= default cluster
export CLAWD_TEST_NGINX ?= $(CURDIR)/$(VENV)/nginx/usr/sbin/nginx
export CLAWD_CACHE ?= $(HOME)/.cache/clawd-provision
export CLAWD_TEST_MODEL ?= $(CURDIR)/$(MODEL)

.PHONY: help up down test test-quick test-hosts lint types packages lock clean
.DEFAULT_GOAL := help

help:                 ## these targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## */\t/' | expand -t 16

$(VENV)/.installed: requirements.lock pyproject.toml | packages
	@echo "creating the environment from requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@awk '/^llama-cpp-python==/ {skip = 1; next} /^[a-z]/ {skip = 0} !skip' requirements.lock > $(VENV)/wheels.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/wheels.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable runtime
	@touch $@

packages:             ## the Debian packages of this machine that the sandbox and the build need
	@missing=$$(dpkg-query -W -f='$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>&1 | grep -v ' installed$$' || true); \
	if [ -n "$$missing" ]; then \
	    echo "installing Debian packages: $(PACKAGES)"; \
	    $(SUDO) apt-get update -qq && \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PACKAGES) >/dev/null; \
	fi

# The program itself, without the service that its package would start on this machine.
$(VENV)/nginx: | $(VENV)/.installed packages
	@cd $(VENV) && (apt-get download -qq nginx 2>/dev/null || \
	    { $(SUDO) apt-get update -qq && apt-get download -qq nginx; }) && \
	    dpkg --extract nginx_*.deb nginx.new && mv nginx.new nginx && rm nginx_*.deb

$(VENV)/.engine: $(VENV)/.installed
	@$(BIN)/python -m provision.artifacts engine-wheel --print-path > $(VENV)/engine-wheel.path
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$$(cat $(VENV)/engine-wheel.path)"
	@touch $@

$(MODEL): | $(VENV)/.engine
	@$(BIN)/python -m provision.artifacts sandbox-model $@

up: packages $(VENV)/.engine $(MODEL)   ## a throwaway Debian host serving the bots on a real model
	@$(SUDO) $(RUN) sandbox up
	@$(RUN) up --inventory sandbox --yes
	@$(RUN) verify --inventory sandbox
	@echo; echo "you> What is the capital of France?"
	@$(RUN) chat --inventory sandbox --message "What is the capital of France?"
	@echo; echo "Next:  $(RUN) chat -i sandbox    talk to the bot"
	@echo "       $(RUN) sandbox ssh       look around on the host"
	@echo "       make down                remove it all"

down:                 ## removes what make up made, but not its cache
	@if [ -x $(RUN) ]; then $(SUDO) $(RUN) sandbox down --purge; fi
	@$(SUDO) rm -rf inventory/.clawd/sandbox
	@rm -rf $(VENV)

test: packages $(VENV)/.engine $(VENV)/nginx $(MODEL) lint types   ## every test
	@$(BIN)/pytest -q runtime/tests
	@$(SUDO) $(BIN)/pytest -q $(COOPERATIVE)
	@$(SUDO) $(BIN)/pytest -q $(PLAIN)

test-quick: $(VENV)/.installed $(VENV)/nginx   ## the tests that need neither a host nor a model
	@$(BIN)/pytest -q -m "not host and not model" runtime/tests
	@$(BIN)/pytest -q -m "not host and not model" $(COOPERATIVE)
	@$(BIN)/pytest -q -m "not host and not model" $(PLAIN)

test-hosts: packages $(VENV)/.engine $(VENV)/nginx $(MODEL)   ## the tests on real hosts
	@$(SUDO) $(BIN)/pytest -q -m host $(COOPERATIVE)
	@$(SUDO) $(BIN)/pytest -q -m host $(PLAIN)

lint: $(VENV)/.installed   ## ruff
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .

types: $(VENV)/.installed  ## mypy, strict
	@$(BIN)/mypy cli.py inventory provision deploys runtime/clawd_runtime

lock:                 ## resolve the lock files anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    -o runtime/requirements.lock runtime/pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    --group dev -o requirements.lock pyproject.toml runtime/pyproject.toml

$(VENV)/molecule/.installed: molecule/requirements.lock | $(VENV)/.installed
	@$(PYTHON) -m venv $(VENV)/molecule
	@$(VENV)/molecule/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.PHONY: molecule
molecule: packages $(VENV)/.engine $(MODEL) $(VENV)/molecule/.installed   ## fresh hosts made, made again without change, verified (minutes)
	@for scenario in $(SCENARIOS); do \
	    $(SUDO) env PATH="$(CURDIR)/$(VENV)/molecule/bin:$$PATH" LC_ALL=C.UTF-8 CLAWD_CACHE="$(CLAWD_CACHE)" \
	        molecule test --scenario-name $$scenario || exit 1; \
	done

clean:                ## caches of tools
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
