# Two commands, each enough alone on a fresh machine with Python >= 3.11 and make: `make local` and `make test`.
PYTHON ?= python3
VENV ?= .venv
FUZZ_SECONDS ?= 60
SDK_WORKERS ?= 4
STATEFUL_STEPS ?= 100000
SINCE ?= main
BIN = $(VENV)/bin
REQUIRED_PYTHONS ?=
SOURCES = pyproject.toml sidecar/__init__.py

.DEFAULT_GOAL := help
.PHONY: help local tools dev test test-fast lint language types unit changelog test-pythons test-sdks stateful bench bench-check bench-node bench-pod fleet fuzz kill-loop lock lock-sdks clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "irsa-sidecar needs Python 3.11 or newer; this is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)." >&2; rm -rf $(VENV); exit 2; }

# One stamp a lock file: what is installed is exactly what is locked, checked against its hashes.
$(VENV)/.%.installed: requirements/%.txt $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q sidecar
	@touch $@

# Two lock files in one go: what is needed to run, and what builds the package.
$(VENV)/.tools.installed: requirements/tools.txt requirements/build.txt $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q sidecar
	@touch $@

local: $(VENV)/.demo.installed ## all of IRSA on this machine: the real AWS CLI gets credentials through it
	$(BIN)/irsa-sidecar local -- $(BIN)/aws sts get-caller-identity

tools: $(VENV)/.tools.installed ## irsa-sidecar with every extra into .venv: setup, doctor, webhook and local
	@echo "Run $(BIN)/irsa-sidecar, or put it into PATH:"
	@echo "  export PATH=\"$(CURDIR)/$(BIN):\$$PATH\""
	@echo "  irsa-sidecar help"

dev: $(VENV)/.dev.installed ## everything that a contributor needs into .venv (CONTRIBUTING.md)
	@echo "Next: make test-fast"

test: lint types unit test-pythons ## lint, types and tests; those of TLS, tokens and time on every other Python too

test-fast: $(VENV)/.dev.installed ## the unit tests of what changed since main, or since SINCE; says how long they took
	$(BIN)/python -m tests.support.changed --base $(SINCE)

lint: $(VENV)/.dev.installed ## style, spelling, and the words that we avoid
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	git ls-files -z | xargs -0 $(BIN)/codespell

LANGUAGE ?=
language: $(VENV)/.dev.installed ## words and forms that we avoid, in LANGUAGE (paths; everything by default)
	$(BIN)/python -m tests.support.language $(LANGUAGE)

types: $(VENV)/.dev.installed
	$(BIN)/mypy

unit: $(VENV)/.dev.installed
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# CI has REQUIRED_PYTHONS=3.13, the image's: without it on the machine the target fails.
test-pythons: $(VENV)/.dev.installed ## the tests of TLS, tokens and time on Python 3.12, 3.13 and newer, where they are
	$(BIN)/python -m tests.support.pythons --require "$(REQUIRED_PYTHONS)"

# Most of a case's time is an SDK's own pauses, so more of them run at once than there are cores.
test-sdks: $(VENV)/.dev.installed ## every AWS SDK in every case, and docs/sdks.md; needs Go, Rust, Java, Maven and Node.js
	$(BIN)/python -m tests.sdk.build
	SDKS=all $(BIN)/python -m pytest -n $(SDK_WORKERS) tests/sdk/test_sdks.py
	$(BIN)/python -m tests.sdk.table

.PHONY: image images test-cluster
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/__init__.py)
IMAGE ?= irsa-sidecar:$(VERSION)
ENGINE ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo podman)
BASE ?=
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# Podman's own format has no HEALTHCHECK.
export BUILDAH_FORMAT = docker
BUILD = $(ENGINE) build --quiet $(if $(BASE),--network=none --build-arg BASE=$(BASE)) \
	--label org.opencontainers.image.version=$(VERSION) --label org.opencontainers.image.revision=$(REVISION)

image: images $(VENV)/.dev.installed ## the images by docker or podman, from another Python by BASE=…, and whether they work
	IMAGE=$(IMAGE) ENGINE=$(ENGINE) $(BIN)/python -m pytest tests/image

images:
	@$(ENGINE) --version >/dev/null || { echo "Images need docker with a running daemon, or podman (on Debian: apt-get install podman runc)." >&2; exit 2; }
	$(BUILD) --target tools --tag $(IMAGE)-tools .
	$(BUILD) --target run --tag $(IMAGE) .
	@for image in $(IMAGE) $(IMAGE)-tools; do \
		echo "$$image: $$(( $$($(ENGINE) image inspect --format '{{.Size}}' $$image) / 1000000 )) MB"; \
	done

# CLUSTER=control needs no root and no containers; CLUSTER=existing takes the cluster that KUBECONFIG names.
test-cluster: $(VENV)/.dev.installed ## the images on a real Kubernetes, which the first time is built for some 10 minutes
	$(BIN)/python -m pytest tests/cluster

stateful: $(VENV)/.dev.installed ## faults in any order against every promise, STATEFUL_STEPS (100000) of them
	HYPOTHESIS_PROFILE=explore STATEFUL_STEPS=$(STATEFUL_STEPS) $(BIN)/python -m pytest -rP -o faulthandler_timeout=0 tests/stateful

bench: $(VENV)/.bench.installed ## what `run` costs, beside its peers: writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.run_cost --report docs $(BENCH)

bench-check: $(VENV)/.dev.installed ## whether `run` still costs what it should: counts and ratios, in a minute
	$(BIN)/python -m benchmarks.check

bench-node: $(VENV)/.bench.installed ## what a node gives up, and how a daemon grows with roles and connections (docs/capacity.md)
	$(BIN)/python -m benchmarks.node
	$(BIN)/python -m benchmarks.growth --plots docs/plots

bench-pod: $(VENV)/.dev.installed ## what a sidecar costs a Pod on a real kubelet, for an hour; needs what test-cluster needs
	$(BIN)/python -m benchmarks.pod $(BENCH)

fleet: $(VENV)/.bench.installed ## what 100,000 Pods ask of STS, in pictures (docs/capacity.md)
	$(BIN)/python -m benchmarks.fleet --plots docs/plots

# The test-suite replays the corpus and some thousand mutations; this goes on from there (tests/fuzz/fuzzer.py).
fuzz: $(VENV)/.dev.installed $(VENV)/.fuzz.installed ## search for bytes that break a parser, FUZZ_SECONDS (60) for each; FUZZ_SEED repeats a run
	$(BIN)/python -m tests.fuzz.fuzzer http $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer imds $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer sts $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer roles $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer local_config $(FUZZ_SECONDS) $(FUZZ_SEED)

changelog: $(VENV)/.dev.installed ## what the fragments in changelog.d/ add to CHANGELOG.md; changes nothing
	$(BIN)/towncrier build --draft --version $(VERSION)

KILL_ROUNDS ?= 300
kill-loop: $(VENV)/.dev.installed ## end the daemon at KILL_ROUNDS (300) random moments; KILL_SEED repeats a run
	KILL_ROUNDS=$(KILL_ROUNDS) $(BIN)/python -m pytest -q -s -o faulthandler_timeout=0 tests/end_to_end/test_killing.py

UPGRADE ?=
lock: $(VENV)/.dev.installed ## pin what pyproject.toml newly needs, with hashes; UPGRADE=--upgrade also takes newer versions
	for set in dev build demo bench fuzz pythons run tools; do \
		case $$set in \
			run) what="pyproject.toml";; \
			tools) what="--all-extras pyproject.toml";; \
			dev) what="--all-extras --group dev pyproject.toml";; \
			build) what="--group build";; \
			*) what="--extra local --group $$set pyproject.toml";; \
		esac; \
		constraint=$$([ $$set = dev ] || echo "--constraint requirements/dev.txt"); \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
			--python-version 3.11 $$constraint $(UPGRADE) -o requirements/$$set.txt $$what || exit 1; \
	done

SDKS = tests/sdk/clients
lock-sdks: $(VENV)/.dev.installed ## take the newest SDKs into the lock files of tests/sdk; Java's are in its pom.xml
	for client in aiobotocore boto3_debian12 object_store; do \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
			--python-version 3.11 --upgrade -o $(SDKS)/$$client/requirements.txt $(SDKS)/$$client/requirements.in || exit 1; \
	done
	cd $(SDKS)/javascript && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --save-exact \
		@aws-sdk/client-sts@latest aws-sdk@latest
	cd $(SDKS)/go && go get -u ./... && go mod tidy
	cd $(SDKS)/rust && cargo update

clean:
	rm -rf $(VENV) .venv-* .sdks .fuzz benchmarks/.build dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
