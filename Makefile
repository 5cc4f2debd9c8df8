# Everything happens in .venv, which is made on first use. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test slow lint floors bench docs fuzz release

# Tests that need real photographs skip where there are none. Set to nothing, `POINTREND_TEST_DATA= make test`, they skip too.
ifeq ($(origin POINTREND_TEST_DATA),undefined)
ifneq ($(wildcard ../shared/data/.),)
export POINTREND_TEST_DATA := $(abspath ../shared/data)
endif
endif

# Realistic logits and photographs' boxes for the benchmark, where they are.
BENCH_INPUTS := $(if $(wildcard ../shared/bench/realistic_logits.py),--logits ../shared/bench/realistic_logits.py) \
	$(if $(wildcard ../shared/data/coco/annotations/instances_val.json),--boxes ../shared/data/coco/annotations/instances_val.json)

# The dev environment holds the demo's packages too, so the demo installs nothing where it exists.
DEMO_ENV := $(if $(wildcard $(VENV)/.installed-dev),$(VENV)/.installed-dev,$(VENV)/.installed-demo)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_ENV) ## find the person in a photograph, cut it out, and show what rendering did, into demo-out/
	@photo=$$($(BIN)/python -c "import pathlib, skimage; print(pathlib.Path(skimage.__file__).with_name('data') / 'astronaut.png')") \
	&& echo "Finding the person in scikit-image's photograph $$photo" \
	&& $(BIN)/pointrend predict "$$photo" --model person-lite0 --size 192 --steps 4 --out demo-out \
		--explain --cutout person --specks 2000 \
	&& $(BIN)/python examples/crisp.py "$$photo" --out demo-out/astronaut_crisp.png \
	&& echo "Look at demo-out/astronaut_cutout.png and demo-out/astronaut_crisp.png first"

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --durations 40

test: $(VENV)/.installed-dev ## run the test suite, but for the slowest tests
	$(PYTEST) -m "not slow and not network"

slow: $(VENV)/.installed-dev ## run the slowest tests
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src

floors: ## run the smoke test with the lowest allowed versions of all packages but PyTorch
	@rm -rf .venv-floors && $(PYTHON) -m venv .venv-floors
	@$(PYTHON) scripts/floors.py > .venv-floors/constraints.txt
	@.venv-floors/bin/pip install --quiet --disable-pip-version-check --constraint .venv-floors/constraints.txt '.[train]'
	.venv-floors/bin/python scripts/smoke.py

bench: $(VENV)/.installed-dev ## measure rendering beside the dense way of others, into bench-out/
	$(BIN)/python -m benchmarks $(BENCH_INPUTS)

docs: $(VENV)/.installed-docs ## build the site of the documentation into site/
	$(BIN)/mkdocs build --strict

release: ## build sdist and wheel into dist/, check them, install the wheel into a clean environment and predict with it
	@rm -rf dist .venv-release && $(PYTHON) -m venv .venv-release
	@.venv-release/bin/pip install --quiet --disable-pip-version-check build twine
	.venv-release/bin/python -m build --outdir dist .
	.venv-release/bin/twine check --strict dist/*
	@rm -rf .venv-release && $(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	.venv-release/bin/python scripts/smoke.py predict

fuzz: $(VENV)/.installed-dev ## read thousands of damaged files, bad ones into fuzz-out/; SEED=1 SCALE=0.1 change what is tried
	$(BIN)/python -m tests.fuzz --seed $(or $(SEED),0) --scale $(or $(SCALE),1)

$(VENV)/.installed-%: pyproject.toml | $(BIN)/pip
	@echo "Installing pointrend and its '$*' extra into $(VENV), once. PyTorch alone can be several GB: this may take several minutes."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "pointrend needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making an environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
