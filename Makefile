# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := training templates tests

.PHONY: demo test check format lock bench clean

demo: .venv/.client
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo

test: .venv/.dev
	@tools/system-packages
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest

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
lock: .venv/.uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --upgrade pyproject.toml requirements/build.in -c requirements/uv.txt -o requirements/client.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --all-extras --group dev pyproject.toml requirements/build.in -c requirements/client.txt -o requirements/dev.txt

.venv/.uv: requirements/uv.txt
	@tools/venv $(PYTHON)
	@touch $@

# Byte-code now: where PYTHONDONTWRITEBYTECODE is set, as in many images, every start would compile it all again.
.venv/.client: .venv/.uv requirements/client.txt pyproject.toml
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/client.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q training
	@touch $@

.venv/.dev: .venv/.client requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
