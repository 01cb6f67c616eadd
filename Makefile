# `make mine` and `make test` do everything on a fresh machine: create .venv, install, run.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
# Idle threads of a test do not take the core of the other one.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: mine test test-fast lint types docs notebooks clean

# The library alone, which is what `make mine` needs; and with what its tests need, which takes minutes more.
.venv/.library: EXTRAS :=
.venv/.installed: EXTRAS := [test]
.venv/.library .venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(EXTRAS)'
	touch $@

mine: .venv/.library
	$(BIN)/hf-hardneg demo --out mined --overwrite

test: .venv/.installed
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-fast: .venv/.installed
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow'

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy hf_hardneg

docs: .venv/.installed
	$(BIN)/python docs/build.py site

notebooks: .venv/.installed
	$(BIN)/python -m notebooks.run

clean:
	rm -rf .venv mined site
