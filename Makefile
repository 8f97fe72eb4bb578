# `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NODE := build/node
PACKS := build/packs
SIGSTORE := build/sigstore
TENSORFLOW := build/tensorflow
FUZZ := build/fuzzer

.DEFAULT_GOAL := help
.PHONY: fuzz eval-scan bench-scan bench-disarm bench-guard figures help run demo test test-packs test-sigstore test-tensorflow check bench bench-gates bench-gateway bench-revoke bench-identity bench-keys bench-audit bench-policy bench-prove bench-replay bench-scale bench-authzen bench-policy-edit eval-access eval-faults eval-policy eval-zones eval-misconfig docs knowledge example clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling==1.27.0 editables
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[gateway,postgres,identity,hsm,analysis,scan,bom,example,test]'
	touch $@

$(NODE)/.installed: tests/node/package.json
	@mkdir -p $(NODE) && cp tests/node/package.json $(NODE)/
	@if command -v npm >/dev/null; then npm install --prefix $(NODE) --ignore-scripts --no-audit --no-fund --no-package-lock --silent && touch $@; \
	else echo "npm is not there: tests with an OIDC server and a browser are skipped"; fi

example: $(STAMP) ## train the example model
	@test -f build/digits/model.onnx || $(BIN)/python examples/digits/train.py --out build/digits

run: $(STAMP) example ## the example system behind vouchgate, in the foreground; Ctrl-C ends it
	@$(BIN)/vouchgate up --config examples/digits/vouchgate.toml

demo: $(STAMP) example ## every promise of the spine as a scene, on free ports, then exit
	@$(BIN)/python examples/digits/demo.py

# Compiled modules are kept: without them each of the workers, and each command that a test starts, compiles everything anew.
test: $(STAMP) example $(NODE)/.installed ## the tests
	PYTHONDONTWRITEBYTECODE= VOUCHGATE_NODE=$(CURDIR)/$(NODE) $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

$(FUZZ)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling==1.27.0 editables
	$(FUZZ)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[scan]'
	$(FUZZ)/bin/pip install --quiet --disable-pip-version-check atheris==3.0.0 h5py==3.16.0 onnx==1.23.2 numpy==2.4.6 && touch $@

fuzz: $(FUZZ)/.installed ## every parser of the scanner and of evidence under a coverage-guided fuzzer; SECONDS=60 each, installs atheris under build/
	$(FUZZ)/bin/python tests/fuzz/run.py $(or $(SECONDS),60)

$(PACKS)/.installed:
	$(PYTHON) -m venv $(PACKS)
	$(PACKS)/bin/pip install --quiet --disable-pip-version-check 'mlflow[auth]==3.17.2' 'moto[server]==5.2.5' boto3==1.44.5
	$(PACKS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling==1.27.0 editables
	$(PACKS)/bin/pip install --quiet --disable-pip-version-check --no-build-isolation -e . && touch $@

test-packs: $(STAMP) example $(PACKS)/.installed ## the pack mlflow before a real MLflow server, the gate in one, its loaders under the guard; installs MLflow under build/
	VOUCHGATE_PACKS=$(CURDIR)/$(PACKS) $(BIN)/python -m pytest tests/system/test_system_packs.py tests/system/test_system_gates.py tests/integrations/test_mlflow_gate.py tests/integrations/test_mlflow_gate_s3.py tests/integrations/test_guard_mlflow.py

$(TENSORFLOW)/.installed:
	$(PYTHON) -m venv $(TENSORFLOW)
	$(TENSORFLOW)/bin/pip install --quiet --disable-pip-version-check tensorflow==2.21.0
	$(TENSORFLOW)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling==1.27.0 editables
	$(TENSORFLOW)/bin/pip install --quiet --disable-pip-version-check --no-build-isolation -e . && touch $@

test-tensorflow: $(STAMP) $(TENSORFLOW)/.installed ## TensorFlow's own loaders under the guard; installs TensorFlow under build/
	VOUCHGATE_TENSORFLOW=$(CURDIR)/$(TENSORFLOW) $(BIN)/python -m pytest tests/integrations/test_guard_tensorflow.py

$(SIGSTORE)/.installed:
	$(PYTHON) -m venv $(SIGSTORE)
	$(SIGSTORE)/bin/pip install --quiet --disable-pip-version-check sigstore==4.5.1 pypi-attestations==0.0.30 pytest==9.2.0 hypothesis==6.170.15
	$(SIGSTORE)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling==1.27.0 editables
	$(SIGSTORE)/bin/pip install --quiet --disable-pip-version-check --no-build-isolation -e .
	$(SIGSTORE)/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary pypi-attestations -d $(SIGSTORE)/signed pypi-attestations==0.0.30
	tar -xzf $(SIGSTORE)/signed/pypi_attestations-0.0.30.tar.gz -C $(SIGSTORE)/signed && touch $@

test-sigstore: $(SIGSTORE)/.installed ## Sigstore bundles beside the project's own library, and bundles that were really signed; installs both under build/
	VOUCHGATE_SIGSTORE=$(CURDIR)/$(SIGSTORE)/signed $(SIGSTORE)/bin/python -m pytest --noconftest tests/evidence/test_sigstore_library.py

check: $(STAMP) ## lint, types, import contracts, documentation
	$(BIN)/ruff check src tests benchmarks examples evals knowledge docs
	$(BIN)/ruff format --check src tests benchmarks examples evals knowledge docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: $(STAMP) example ## every benchmark and the kills, a missed goal notwithstanding; then docs/figures.md
	-$(BIN)/python benchmarks/audit.py
	-$(BIN)/python -m benchmarks.policy
	-$(BIN)/python -m benchmarks.policy_prove
	-$(BIN)/python -m benchmarks.policy_replay
	-$(BIN)/python benchmarks/gateway.py
	-$(BIN)/python benchmarks/revocation.py
	-$(BIN)/python -m benchmarks.identity
	-$(BIN)/python -m benchmarks.identity_keys
	-$(BIN)/python -m benchmarks.scale
	-$(BIN)/python -m benchmarks.authzen
	-$(BIN)/python -m benchmarks.policy_edit
	-$(BIN)/python -m benchmarks.scan
	-$(BIN)/python -m benchmarks.disarm
	-$(MAKE) bench-guard
	-$(BIN)/python -m benchmarks.gates
	-$(BIN)/python evals/policy.py
	-$(BIN)/python evals/zones.py
	-$(BIN)/python evals/scan.py
	-$(BIN)/python evals/misconfigurations.py
	-$(BIN)/python evals/access.py
	-$(BIN)/python evals/faults.py
	$(MAKE) figures

figures: $(STAMP) ## docs/figures.md from what was measured last
	$(BIN)/python -m benchmarks.figures

bench-disarm: $(STAMP) ## rebuilding 1 GiB, honest and wrapped state dicts bit for bit
	$(BIN)/python -m benchmarks.disarm

bench-guard: $(STAMP) example ## loading 1 and 4 GiB under the guard beside the library alone (as root; GUARD_PYTHON=... one that has torch)
	$(BIN)/python -m benchmarks.guard --python $(or $(GUARD_PYTHON),$(BIN)/python)

bench-audit: $(STAMP) ## durable entries a second, proofs
	$(BIN)/python benchmarks/audit.py

bench-policy: $(STAMP) ## decisions beside cedarpy
	$(BIN)/python benchmarks/policy.py

bench-replay: $(STAMP) ## a million recorded decisions under two versions of the policy
	$(BIN)/python -m benchmarks.policy_replay

bench-prove: $(STAMP) ## proofs over policies: times, and held against random requests
	$(BIN)/python -m benchmarks.policy_prove

bench-authzen: $(STAMP) example ## evaluations for others over HTTP, recorded
	$(BIN)/python -m benchmarks.authzen

bench-policy-edit: $(STAMP) example ## revocation to enforcement while policy edits touch 10,000 cells
	$(BIN)/python -m benchmarks.policy_edit

bench-scan: $(STAMP) ## what a verdict on an artifact costs beside hashing alone
	$(BIN)/python -m benchmarks.scan

bench-gates: $(STAMP) example ## how long a cluster waits for the gate, decided and recorded
	$(BIN)/python -m benchmarks.gates

bench-gateway: $(STAMP) example ## latency and CPU beside the plain hop, direct, and a Python proxy
	$(BIN)/python benchmarks/gateway.py

bench-revoke: $(STAMP) example ## revocation to enforcement on live connections
	$(BIN)/python benchmarks/revocation.py

bench-identity: $(STAMP) ## identities over the Workload API: issuance, rotation, registration (as root)
	$(BIN)/python -m benchmarks.identity

bench-keys: $(STAMP) ## signing with keys in files, sealed, in a token
	$(BIN)/python -m benchmarks.identity_keys

bench-scale: $(STAMP) example ## memory and times with 10,000 registrations
	$(BIN)/python -m benchmarks.scale

eval-access: $(STAMP) example ## every route, socket, method and key with every kind of defective identity (as root): nobody may get in
	$(BIN)/python evals/access.py

eval-faults: $(STAMP) example ## kill and stop every process at random points under load, at least 200 times
	$(BIN)/python evals/faults.py

eval-policy: $(STAMP) ## suspicious requests that static roles permit, least privilege suggested from traffic
	$(BIN)/python evals/policy.py

eval-zones: $(STAMP) ## a compromised worker in every zone of two tenants tries everything (as root): nothing outside declared flows
	$(BIN)/python evals/zones.py

eval-scan: $(STAMP) ## attacks refused, honest files clean, damaged files harmless, other scanners beside; installs libraries under build/
	$(BIN)/python evals/scan.py

eval-misconfig: $(STAMP) example ## what a tired engineer gets wrong in policies, settings and at enforcement points (as root): all of it found, by name
	$(BIN)/python evals/misconfigurations.py

knowledge: $(STAMP) ## read the pinned wheels, judge, compile and sign the knowledge base (needs the publisher's key)
	$(BIN)/python -m knowledge build

docs: $(STAMP) ## generate docs/catalog.md and the import diagram
	$(BIN)/python docs/generate.py

clean: ## remove what the build made
	rm -rf build dist .vouchgate
