# A fresh clone needs Python 3.11 or newer and make; every target makes the environment it needs.
#   make test PYTHON=python3.12 VENV=.venv-3.12      another interpreter, in an environment of its own
#   make test PYTEST_ARGS="-x tests/models"          anything else for pytest
PYTHON ?=
VENV ?= .venv
PARITY_VENV ?= .venv-parity
PYTEST_ARGS ?=

# The stamp's name holds PYTHON, so that naming another interpreter installs anew.
mark = .installed$(subst /,-,$(PYTHON))
FAST = not parity and not gpu and not processes

.DELETE_ON_ERROR:
.PHONY: help demo test processes parity bench lint format clean

help:
	@echo "make demo       distil a small student from the packaged teacher, write runs/demo/report.html"
	@echo "make test       the fast tests, two at a time"
	@echo "make processes  the tests that start several processes, one at a time"
	@echo "make parity     full-size and live comparison with the PyTorch reference ($(PARITY_VENV), installs torch)"
	@echo "make bench      side-by-side timings with PyTorch ($(PARITY_VENV))"
	@echo "make lint       ruff and pyright;  make format  lets ruff rewrite"
	@echo "make clean      removes the environments and caches, never runs/"

demo: $(VENV)/$(mark)
	$(VENV)/bin/sadist demo --out runs/demo

test: $(VENV)/$(mark)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "$(FAST)" $(PYTEST_ARGS)

processes: $(VENV)/$(mark)
	$(VENV)/bin/python -m pytest -m "processes and not parity and not gpu" $(PYTEST_ARGS)

parity: $(PARITY_VENV)/$(mark)
	$(PARITY_VENV)/bin/python -m pytest -m "parity and not gpu" $(PYTEST_ARGS)

bench: $(PARITY_VENV)/$(mark)
	$(PARITY_VENV)/bin/python -m benchmarks

lint: $(VENV)/$(mark)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

format: $(VENV)/$(mark)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf .venv .venv-* .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/$(mark): pyproject.toml constraints-py311.txt
	$(call install,$(VENV),dev)

$(PARITY_VENV)/$(mark): pyproject.toml constraints-py311.txt
	$(call install,$(PARITY_VENV),dev$(comma)parity)
	@# their metadata ask for torchvision and TensorFlow, which nothing here needs
	$(PARITY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints-py311.txt \
	  timm keras-hub

comma := ,

# $(call install,ENVIRONMENT,EXTRAS): pick an interpreter, make the environment unless it is there, install this package
# into it. The pinned versions are for Python 3.11; newer Pythons take the newest releases.
define install
@set -e; \
for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 none); do \
  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
  python=none; \
done; \
if [ $$python = none ]; then \
  echo "make: no Python >= 3.11 with the venv module among: $(or $(PYTHON),python3 python3.13 python3.12 python3.11);" \
    "install one (Debian: apt install python3-venv) or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; \
fi; \
tag='import sys; print(*sys.version_info[:3])'; \
if [ "$$($(1)/bin/python -c "$$tag" 2>/dev/null)" != "$$($$python -c "$$tag")" ]; then \
  $$python -m venv --clear $(1); \
fi; \
pins=; if $(1)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then pins="-c constraints-py311.txt"; fi; \
echo "installing sadist_jax[$(2)] into $(1) ($$($(1)/bin/python --version); about a minute)"; \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check $$pins -e ".[$(2)]"; \
rm -f $(1)/.installed*; touch $@
endef
