# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := training infra templates tests
# The Azure SDK takes seconds to compile: what the tests import is compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo infra test check format lock bench clean

demo: .venv/.client
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo

test: .venv/.dev
	@tools/system-packages
	@echo "Types, style and three parts of the tests run side by side; each says at its end what it found, the last in 8 minutes (two fast cores) to 16 (two slow ones)."
	@$(MAKE) --no-print-directory --jobs $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) check test-slurm test-infra test-rest

# Its own time limits are real, and most of it is waiting for Slurm: so it goes before the others.
.PHONY: test-slurm test-infra test-rest
test-slurm:
	$(BIN)/pytest --numprocesses 2 --dist loadgroup tests/slurm
test-infra:
	@tools/pulumi-cli >/dev/null
	@for tool in checkov cloud-init policy-pack; do tools/tool-venv $$tool >/dev/null || exit 1; done
	nice $(BIN)/pytest --numprocesses 2 --dist loadfile tests/infra
test-rest:
	nice $(BIN)/pytest --numprocesses 3 --dist loadgroup --ignore tests/infra --ignore tests/slurm

check: .venv/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: .venv/.dev
	@for benchmark in tests/benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done

# Pinned with digests, for every platform at once; without the index's address, which is the user's own choice.
COMPILE = $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
  --python-version 3.11 --upgrade
lock: .venv/.uv
	$(COMPILE) pyproject.toml requirements/build.in -c requirements/uv.txt -o requirements/client.txt
	$(COMPILE) --extra infra --extra azure pyproject.toml requirements/build.in -c requirements/client.txt -o requirements/infra.txt
	$(COMPILE) --all-extras --group dev pyproject.toml requirements/build.in -c requirements/infra.txt \
	  -o requirements/dev.txt
	$(COMPILE) requirements/checkov.in -o requirements/checkov.txt
	$(COMPILE) requirements/policy-pack.in -o requirements/policy-pack.txt
	$(COMPILE) requirements/cloud-init.in -o requirements/cloud-init.txt

.venv/.uv: requirements/uv.txt
	@tools/venv $(PYTHON)
	@touch $@

# Byte-code now: where PYTHONDONTWRITEBYTECODE is set, as in many images, every start would compile it all again.
.venv/.client: .venv/.uv requirements/client.txt pyproject.toml
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/client.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q training
	@touch $@

# What Azure needs: `pulumi up`, `tyard infra review`, blob storage. 350 MB, so nobody else gets it.
infra: .venv/.infra
.venv/.infra: .venv/.client requirements/infra.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/infra.txt
	@$(BIN)/tyard infra review >/dev/null # compiles what the program uses; the whole SDK would take minutes
	@touch $@

.venv/.dev: .venv/.client requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/python -c "$(COMPILED)" # else each of the tests' processes would compile it, all at the same time
	@touch $@
COMPILED = import azure.identity, azure.mgmt.compute, azure.storage.blob, cryptography.x509, hypothesis.stateful, pulumi

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
