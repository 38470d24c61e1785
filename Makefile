# make demo       checks the operator on photographs, times it, draws demo.png
# make test       runs the tests
# make docs       the API reference, as pages in build/docs
# make lint       clang-format, ruff, mypy
# make bench      times and memory beside eager PyTorch, torch.compile and cuDNN; tables and pictures in bench-results/
# make sanitize   memcheck, racecheck and synccheck over every kernel (needs a GPU); JOBS=4 processes share the problems
# make build      the libraries, in place
# make wheel      dist/: wheels for the torch at hand, with CUDA (where it can be built) and without, and the sdist
# make clean      removes what was built; the virtual environment stays
#
# Each makes .venv, installs what it needs, and builds. VENV=none uses the environment in hand and installs nothing:
#   make test VENV=none PYTHON=python3.12
# ARGS goes to the program:  make test ARGS="-k nan -x"    make bench ARGS="--shapes sweep --time-budget 600"
# REQUIRE_CUDA=1 makes a missing GPU a failure of the tests rather than a skip.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= 4

ifeq ($(VENV),none)
PY := $(PYTHON)
ready = preflight
else
PY := $(VENV)/bin/python
ready = $(VENV)/.ready
endif

RUN := PYTHONPATH=python $(PY)
PIP_INSTALL := $(PY) -m pip --disable-pip-version-check install

export REQUIRE_CUDA

.PHONY: demo test docs bench lint sanitize build wheel clean preflight help
.DELETE_ON_ERROR:

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: build
	$(RUN) examples/demo.py $(ARGS)

test: build
	$(RUN) -m pytest $(ARGS)

docs: build
	$(RUN) -m pdoc -d google --math -o build/docs convmin $(ARGS)

bench: build
	$(RUN) -m convmin bench --out bench-results $(ARGS)

lint: $(ready)
	$(PY) -c "from clang_format import clang_format; clang_format()" --dry-run -Werror \
	  $$(find kernels csrc tests benchmarks -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp')
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

build: $(ready)
	$(PY) setup.py -q build_ext --inplace

wheel: $(ready)
	$(PY) -m build_tools.wheel $(ARGS)

# Allocations of their own (no caching) let memcheck see an access past a tensor's end. Plans for few multiprocessors, so
# that what takes a large problem on a whole GPU takes a small one.
sanitize: SANITIZER ?= $(shell command -v compute-sanitizer || \
  ls $(CUDA_HOME)/bin/compute-sanitizer /usr/local/cuda/bin/compute-sanitizer 2> /dev/null | head -1)
sanitize: build
	@test -n "$(SANITIZER)" || { echo "make sanitize: compute-sanitizer is neither on PATH nor in CUDA_HOME;" \
	  "it is part of the CUDA Toolkit. Or: make sanitize SANITIZER=PATH" >&2; exit 1; }
	@$(PY) -c "import sys, torch; torch.cuda.is_available() or sys.exit('make sanitize: torch sees no GPU')"
	set -e; export CONVMIN_SM_COUNT=24; for tool in memcheck racecheck synccheck; do \
	  echo "== $$tool"; \
	  if [ $$tool = racecheck ]; then export CONVMIN_EVERY_LANE_ARRIVES=1; else unset CONVMIN_EVERY_LANE_ARRIVES; fi; \
	  seq $(JOBS) | PYTHONPATH=python PYTORCH_NO_CUDA_MEMORY_CACHING=1 xargs -P $(JOBS) -I{} \
	    $(SANITIZER) --tool $$tool --error-exitcode 1 --kernel-name kernel_substring=convmin \
	    $(PY) tests/sanitize.py --part {}/$(JOBS) $(ARGS); \
	done

clean:
	rm -rf build dist python/*.egg-info python/convmin/*.so python/convmin/include python/convmin/share
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.png bench-results

preflight:
	@command -v $(PYTHON) > /dev/null || { echo "make: no $(PYTHON). Name a Python 3.10 or newer: PYTHON=..." >&2; exit 1; }
	@$(PYTHON) build_tools/preflight.py

$(VENV)/.created:
	@command -v $(PYTHON) > /dev/null || { echo "make: no $(PYTHON). Name a Python 3.10 or newer: PYTHON=..." >&2; exit 1; }
	@$(PYTHON) build_tools/preflight.py --venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

# One pip run for all of them, and the CUDA compiler where there is a GPU and no compiler yet.
$(VENV)/.ready: pyproject.toml | $(VENV)/.created
	@$(PY) -m build_tools.requirements demo bench test docs lint > $(VENV)/requirements.txt
	$(PIP_INSTALL) -r $(VENV)/requirements.txt
	@$(PY) -m build_tools.requirements --nvcc > $(VENV)/nvcc.txt
	@if [ -s $(VENV)/nvcc.txt ]; then cat $(VENV)/nvcc.txt; $(PIP_INSTALL) -r $(VENV)/nvcc.txt; fi
	@touch $@
