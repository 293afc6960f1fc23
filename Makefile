# Two commands on a fresh machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SIZE ?= small
OUT ?= runs/quickstart

.PHONY: install run test check bench test-verl clean

install: $(VENV)/.installed

# torch comes first and by its exact version: another package asking for plain "torch" would bring another build.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,report,remote,serve,track,dev]"
	touch $@

run: install
	$(BIN)/recode-rl quickstart --size $(SIZE) --out $(OUT)

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

test-verl:
	@echo "the veRL engine is not built yet"; exit 1

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
