# Everything that a fresh Debian machine needs, in the order in which it needs it. `make help` lists the targets.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Debian packages: the engine, the host systems' builder and the sandbox's users, git, userspace images, and what tests
# compare with.
ENGINE_APT_PACKAGES := docker.io iptables
APT_PACKAGES := mmdebstrap uidmap ca-certificates curl git squashfs-tools
TEST_APT_PACKAGES := gcc libc6-dev strace rpm createrepo-c apt-utils gnupg rpmlint lintian shellcheck busybox-static logrotate systemd docker-registry skopeo umoci openssl docker-compose squashfuse fuse3 erofs-utils xorriso podman catatonit chromium
BENCH_APT_PACKAGES := rpm docker-registry isal squashfs-tools squashfuse makeself zstd chromium
# One more than there are processors: much of a boot is waiting for programs to start.
TEST_PROCESSES ?= $(shell expr $$(nproc) + 1)
# The demo and the tests solve against the channel that the project's recipes make.
export BOXSNAKE_CONFIG := $(CURDIR)/build/config.toml

# Where it is set, each start of boxsnake would compile all of its sources again.
unexport PYTHONDONTWRITEBYTECODE

# What the demo boots where no engine can be started.
BOOTED_WITHOUT_ENGINE := appimage conda-pack deb image installer pex rpm wheelhouse

.DEFAULT_GOAL := help
.PHONY: help setup demo test thorough lint types bench proof docs clean engine channel hosts

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(BIN)/boxsnake ## make the virtual environment in .venv

$(BIN)/boxsnake: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "boxsnake needs Python 3.11 or newer; give one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(call need,$(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing boxsnake and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# $(call need,packages): install Debian packages that are missing when we are root, else name them.
define need
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}\n' $$p 2>/dev/null | grep -q 'ok installed' || printf '%s ' $$p; done); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing Debian packages: $$missing"; \
		log=$$(mktemp); \
		{ DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >$$log 2>&1 \
		|| { apt-get update -q >$$log 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >>$$log 2>&1; }; } \
		|| { tail -n 20 $$log; echo "apt-get failed; its log is $$log"; exit 1; }; rm -f $$log; \
	else echo "These Debian packages are needed; install them as root: apt-get install $$missing"; exit 1; fi
endef

engine:
	$(call need,$(ENGINE_APT_PACKAGES) $(APT_PACKAGES))
	@sh docker/engine.sh

build/config.toml: Makefile
	@mkdir -p build
	@printf '%s\n' '# What is local to this checkout: its own channel and base system stand in for public ones.' \
		'channels = ["./channel"]' '[bases]' '"debian:12-slim" = "host:debian-12"' '"debian:13-slim" = "host:debian-13"' \
		'[services]' '"redis:7" = "service:redis"' '"postgres:15" = "service:postgresql"' > $@

channel: $(BIN)/boxsnake build/config.toml ## build the local conda channel from recipes
	$(call need,$(APT_PACKAGES))
	@$(BIN)/boxsnake channel build recipes --output build/channel

demo: $(BIN)/boxsnake channel ## box the examples in every format that they ask for and boot each box
	-$(call need,$(ENGINE_APT_PACKAGES))
	@set -e; boxes=; runtime=auto; \
	if ! sh docker/engine.sh; then \
		echo "no container engine: boxes are booted in the sandbox; build contexts, which take an engine, are not"; \
		boxes='$(BOOTED_WITHOUT_ENGINE)'; runtime=sandbox; \
	fi; \
	for example in hello-web report; do \
		echo; echo "== examples/$$example"; \
		manifest=examples/$$example/boxsnake.toml; \
		$(BIN)/boxsnake lock --manifest $$manifest; \
		$(BIN)/boxsnake build --manifest $$manifest; \
		$(BIN)/boxsnake boot --manifest $$manifest --runtime $$runtime $$boxes; \
	done

test: $(BIN)/boxsnake engine channel ## run all tests, the boot matrix among them
	$(call need,$(TEST_APT_PACKAGES))
	@$(BIN)/boxsnake --quiet channel build recipes --output build/channel --with python-3.13
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

thorough: $(BIN)/boxsnake engine channel ## run the tests that vary what others show, and take too long for each time
	$(call need,$(TEST_APT_PACKAGES))
	@$(BIN)/boxsnake --quiet channel build recipes --output build/channel --with python-3.13
	@for platform in linux-64 linux-aarch64; do $(BIN)/boxsnake --quiet channel build recipes --output build/channel --platform $$platform || exit; done
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m thorough

lint: $(BIN)/boxsnake ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(BIN)/boxsnake ## mypy, strict
	@$(BIN)/mypy

bench: $(BIN)/boxsnake engine channel ## measure against peers, run side by side
	$(call need,$(BENCH_APT_PACKAGES))
	@$(BIN)/python tests/bench.py

proof: $(BIN)/boxsnake engine channel ## boot well-known applications of the index: no false alarm
	@$(BIN)/python tests/proof_known_applications.py

docs: $(BIN)/boxsnake ## write the tables of README.md and docs/ that are made from the code
	@$(BIN)/python docs/tables.py && $(BIN)/python docs/manifest_tables.py

clean: ## remove what make made here (the store stays: boxsnake cache clean)
	@rm -rf build $(VENV) examples/*/dist examples/*/boxsnake.lock .pytest_cache .mypy_cache .ruff_cache
