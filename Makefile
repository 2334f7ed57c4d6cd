# `make local` and `make test` need no other target before them. They need only Python 3.11 or newer, and make.
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
.PHONY: help local tools dev clean
.PHONY: test test-fast lint language types unit test-pythons test-sdks test-chart test-policies
.PHONY: docs docs-check docs-publish reference messages chart policy changelog
.PHONY: stateful fuzz kill-loop
.PHONY: bench bench-check bench-node bench-pod fleet plots pictures
.PHONY: lock lock-sdks

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "make %-19s %s\n", $$1, $$2 }'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "irsa-sidecar needs Python 3.11 or newer; this is $$($(PYTHON) --version 2>&1). Use another Python: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "This Python cannot create a virtual environment. On Debian and Ubuntu: apt install python3-venv." >&2; rm -rf $(VENV); exit 2; }

# One stamp per lock file. pip installs exactly the locked versions and verifies their hashes.
$(VENV)/.%.installed: requirements/%.txt $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q sidecar
	@touch $@

# Two lock files at once: the packages to run, and those that build the package.
$(VENV)/.tools.installed: requirements/tools.txt requirements/build.txt $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q sidecar
	@touch $@

local: $(VENV)/.demo.installed ## run all parts of IRSA on this machine, and call the local STS with the real AWS CLI
	$(BIN)/irsa-sidecar local -- $(BIN)/aws sts get-caller-identity

tools: $(VENV)/.tools.installed ## install irsa-sidecar with every extra into .venv: setup, doctor, webhook and local
	@echo "Run $(BIN)/irsa-sidecar, or put it into PATH:"
	@echo "  export PATH=\"$(CURDIR)/$(BIN):\$$PATH\""
	@echo "  irsa-sidecar help"

dev: $(VENV)/.dev.installed ## install the packages for development into .venv (CONTRIBUTING.md)
	@echo "Next: make test-fast"

test: lint types unit ## run lint, types, and all tests that need no container

test-fast: $(VENV)/.dev.installed ## run the unit tests of packages that changed since SINCE (main), and print the time
	$(BIN)/python -m tests.support.changed --base $(SINCE)

lint: $(VENV)/.dev.installed ## check style, spelling and language
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/python -m tests.support.language
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json
	$(BIN)/python -m release.workflows

LANGUAGE ?=
language: $(VENV)/.dev.installed ## find avoided words in the paths of LANGUAGE (by default all files)
	$(BIN)/python -m tests.support.language $(LANGUAGE)

types: $(VENV)/.dev.installed ## check the types with mypy
	$(BIN)/mypy

unit: $(VENV)/.dev.installed
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

messages: $(VENV)/.dev.installed ## write the messages of all errors to tests/unit/messages.txt
	$(BIN)/python -m tests.unit.messages

reference: $(VENV)/.dev.installed ## write docs/reference, completion scripts, JSON Schemas and manual pages from the code
	$(BIN)/python -m tests.docs.reference

# CI sets REQUIRED_PYTHONS=3.13, the Python of the image. Then only this one runs, and the target fails if it is missing.
test-pythons: $(VENV)/.dev.installed ## run the unit tests on Python 3.12, 3.13 and newer, if installed
	$(BIN)/python -m tests.support.pythons --require "$(REQUIRED_PYTHONS)"

# This target ignores the lock files. It uses the versions that `make lock UPGRADE=--upgrade` would pin.
NEWEST = .venv-newest
test-newest: $(VENV)/.dev.installed ## run the unit tests and the tests of `run` with the newest versions of all dependencies
	rm -rf $(NEWEST)
	$(BIN)/uv venv --quiet --python $(BIN)/python $(NEWEST)
	$(BIN)/uv pip install --quiet --python $(NEWEST) --upgrade --all-extras --group dev -r pyproject.toml
	$(BIN)/uv pip install --quiet --python $(NEWEST) --no-deps --no-build-isolation --editable .
	$(NEWEST)/bin/python -m pytest -n auto tests/unit tests/end_to_end/test_run.py

# SDKs wait most of the time, so more cases run at once than the machine has cores.
test-sdks: $(VENV)/.dev.installed ## run every AWS SDK in every case, and write docs/sdks.md; needs Go, Rust, Java, Maven and Node.js
	$(BIN)/python -m tests.sdk.build
	SDKS=all $(BIN)/python -m pytest -n $(SDK_WORKERS) tests/sdk/test_sdks.py
	$(BIN)/python -m tests.sdk.table

.PHONY: image images test-cluster test-cluster-oldest
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/__init__.py)
IMAGE ?= irsa-sidecar:$(VERSION)
ENGINE ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo podman)
BASE ?=
CREATED ?= $(shell TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD 2>/dev/null)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# Podman's default image format has no HEALTHCHECK.
export BUILDAH_FORMAT = docker
# A base that was built on this machine contains all packages, so the build needs no network.
BUILD = $(ENGINE) build --quiet $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(filter localhost/%,$(BASE)),--network=none) \
	--label org.opencontainers.image.version=$(VERSION) --label org.opencontainers.image.revision=$(REVISION) \
	--label org.opencontainers.image.created=$(CREATED)

image: images $(VENV)/.dev.installed ## build the images with docker or podman, and test them; BASE=… sets another base image
	IMAGE=$(IMAGE) ENGINE=$(ENGINE) $(BIN)/python -m pytest tests/image

images:
	@$(ENGINE) --version >/dev/null || { echo "Images need docker with a running daemon, or podman (on Debian: apt-get install podman runc)." >&2; exit 2; }
	$(BUILD) --target tools --tag $(IMAGE)-tools .
	$(BUILD) --target run --tag $(IMAGE) .
	@for image in $(IMAGE) $(IMAGE)-tools; do \
		echo "$$image: $$(( $$($(ENGINE) image inspect --format '{{.Size}}' $$image) / 1000000 )) MB"; \
	done

# CLUSTER=control needs no root and no containers. CLUSTER=existing uses the cluster in KUBECONFIG.
# KUBERNETES=1.29 selects a version of tests/cluster/kubelab.
test-cluster: $(VENV)/.dev.installed ## test the images on the newest Kubernetes; the first build takes about 10 minutes
	$(BIN)/python -m pytest tests/cluster

OLDEST_KUBERNETES = $(shell ls tests/cluster/kubelab | sed -n 's/^v//p' | sort -V | head -1)
test-cluster-oldest: $(VENV)/.dev.installed ## run the core of test-cluster on the oldest Kubernetes
	KUBERNETES=$(OLDEST_KUBERNETES) $(BIN)/python -m pytest -m core tests/cluster

DOCS_REF ?= main
docs: $(VENV)/.site.installed ## build the documentation site into build/website/site, without the network
	$(BIN)/python -m website.build --ref $(DOCS_REF)

DOCS_SITE ?= build/website/published
docs-publish: docs ## put the site of this version into DOCS_SITE, a folder with all published versions
	mkdir -p $(DOCS_SITE)
	$(BIN)/python -m website.publish $(DOCS_SITE) $(VERSION)

docs-check: docs ## check the site's pages in headless Chromium: width, contrast, search, requests to other hosts
	$(BIN)/python -m pytest tests/website

test-chart: $(VENV)/.dev.installed ## test the chart with Helm 3 and 4, which takes about 4 minutes to build the first time
	$(BIN)/python -m pytest tests/chart

test-policies: $(VENV)/.dev.installed ## test the policies for Kyverno and Gatekeeper, whose commands take minutes to build the first time
	$(BIN)/python -m pytest tests/policies

policy: $(VENV)/.dev.installed ## write k8s/policy from sidecar/policy
	$(BIN)/python -m tests.docs.policy

chart: $(VENV)/.dev.installed ## write the generated files of the chart: monitoring, and its README
	$(BIN)/python -m tests.docs.chart

stateful: $(VENV)/.dev.installed ## run STATEFUL_STEPS (100000) random faults, and check every guarantee
	HYPOTHESIS_PROFILE=explore STATEFUL_STEPS=$(STATEFUL_STEPS) $(BIN)/python -m pytest -rP -o faulthandler_timeout=0 tests/stateful

bench: $(VENV)/.bench.installed ## compare the cost of `run` with its peers, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks.run_cost --report docs $(BENCH)

bench-check: $(VENV)/.dev.installed ## check the cost of `run` by counts and ratios, in a minute
	$(BIN)/python -m benchmarks.check

bench-node: $(VENV)/.bench.installed ## measure many daemons on a node, and a daemon with many roles and connections (docs/capacity.md)
	$(BIN)/python -m benchmarks.node
	$(BIN)/python -m benchmarks.growth --plots docs/plots

bench-pod: $(VENV)/.dev.installed ## measure a sidecar on a real kubelet for an hour; has the prerequisites of test-cluster
	$(BIN)/python -m benchmarks.pod $(BENCH)

fleet: $(VENV)/.bench.installed ## simulate the calls of 100,000 Pods to STS, and plot them (docs/capacity.md)
	$(BIN)/python -m benchmarks.fleet --plots docs/plots

plots: $(VENV)/.bench.installed ## draw docs/plots again from the stored data, without a measurement
	$(BIN)/python -m benchmarks.plots docs

# D2 draws the pictures (https://d2lang.com), and go.mod pins its version. A test compares SHA256SUMS.
PICTURE = go tool d2 --pad 10 --omit-version
pictures: ## draw the pictures of the documentation from docs/pictures/*.d2, in two themes; needs Go
	cd docs/pictures && for name in architecture sequence; do \
		$(PICTURE) --theme 0 $$name.d2 $$name-light.svg && $(PICTURE) --theme 201 $$name.d2 $$name-dark.svg || exit 1; \
	done && chmod 644 *.svg && sha256sum *.d2 *.svg >SHA256SUMS

# `make test` replays the corpus and some thousand mutations. `make fuzz` tries more (tests/fuzz/fuzzer.py).
fuzz: $(VENV)/.dev.installed $(VENV)/.fuzz.installed ## search for bytes that break a parser, FUZZ_SECONDS (60) per parser; FUZZ_SEED repeats a run
	$(BIN)/python -m tests.fuzz.fuzzer http $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer imds $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer sts $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer roles $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.fuzzer local_config $(FUZZ_SECONDS) $(FUZZ_SEED)

.PHONY: release release-check release-ready release-publish test-release
# A trial release may have the images of one architecture: ARCHITECTURES=amd64. BASE=… is another base image.
ARCHITECTURES ?= amd64,arm64
RELEASE_KEYS ?= .release-keys
RELEASE_FLAGS ?=
CHECK_FLAGS ?=
PUBLISH_FLAGS ?=
RELEASE = BASE=$(BASE) ENGINE=$(ENGINE) $(BIN)/python -m release

release: $(VENV)/.dev.installed ## build the commit that is checked out into dist/: packages, images, chart, SBOMs, signatures
	$(RELEASE) build --architectures=$(ARCHITECTURES) --keys=$(RELEASE_KEYS) $(RELEASE_FLAGS)

release-check: $(VENV)/.dev.installed ## verify dist/, install the wheel, and run the images from a local registry
	$(RELEASE) check --architectures=$(ARCHITECTURES) --keys=$(RELEASE_KEYS) $(CHECK_FLAGS)

release-ready: $(VENV)/.dev.installed ## check that this commit can be released as TAG
	$(BIN)/python -m release ready $(TAG)

release-publish: $(VENV)/.dev.installed ## push images and chart of dist/ to REGISTRY, and sign them there
	$(RELEASE) publish --keys=$(RELEASE_KEYS) $(PUBLISH_FLAGS) $(REGISTRY)

test-release: $(VENV)/.dev.installed ## build dist/ again on another day, and tamper with it
	BASE=$(BASE) ENGINE=$(ENGINE) ARCHITECTURES=$(ARCHITECTURES) RELEASE_KEYS=$(RELEASE_KEYS) $(BIN)/python -m pytest tests/release

changelog: $(VENV)/.dev.installed ## print the release notes in changelog.d/
	$(BIN)/towncrier build --draft --version $(VERSION)

KILL_ROUNDS ?= 300
kill-loop: $(VENV)/.dev.installed ## kill the daemon at KILL_ROUNDS (300) random moments; KILL_SEED repeats a run
	KILL_ROUNDS=$(KILL_ROUNDS) $(BIN)/python -m pytest -q -s -o faulthandler_timeout=0 tests/end_to_end/test_killing.py

UPGRADE ?=
lock: $(VENV)/.dev.installed ## pin new packages of pyproject.toml with hashes; UPGRADE=--upgrade upgrades all
	for set in dev build demo bench fuzz run site tools; do \
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
lock-sdks: $(VENV)/.dev.installed ## upgrade the SDKs in the lock files of tests/sdk; Java's are in its pom.xml
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
