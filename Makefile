# Two commands on a fresh machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SIZE ?= small
OUT ?= runs/quickstart

.PHONY: install run test check bench test-verl bigcodebench clean

install: $(VENV)/.installed

# torch comes first and by its exact version: another package asking for plain "torch" would bring another build.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,math,report,remote,serve,adjudicate,track,dev]"
	touch $@

run: install
	$(BIN)/recode-rl quickstart --size $(SIZE) --out $(OUT)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# veRL wants other versions than the rest, so it has an environment of its own, without GPU packages: 1.2 GB, most
# of it torch. Its warnings, and Ray's, are theirs.
.venv-verl/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-verl/bin/python -m pip install --quiet --disable-pip-version-check -e ".[verl,math,remote,serve]" \
		pytest pytest-timeout torch==2.13.0
	touch $@

test-verl: .venv-verl/.installed
	.venv-verl/bin/python -m pytest -m verl -o filterwarnings=ignore tests/test_verl_engine.py

# An interpreter of its own for BigCodeBench's programs: recode-rl eval --interpreter .venv-bigcodebench
bigcodebench: .venv-bigcodebench/.installed

.venv-bigcodebench/.installed: bench/requirements-bigcodebench.txt
	$(PYTHON) -m venv .venv-bigcodebench
	.venv-bigcodebench/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean:
	rm -rf $(VENV) .venv-verl .venv-bigcodebench build dist .pytest_cache .mypy_cache .ruff_cache
