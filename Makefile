# Two commands do everything on a machine with Python 3.11 and nothing else: `make demo` and `make test`.
# TORCH_INDEX=URL takes torch from another index, for example one that holds its CPU builds.

PYTHON ?= python3
VENV ?= .venv
LEGACY_VENV ?= .venv-legacy
TORCH_INDEX ?=
TORCH := $(shell grep '^torch==' constraints/modern.txt)
QUIET ?= -q
WORKERS ?= 2
# One thread a process: two busy processes that each take every core are far slower than two that share them.
THREADS := OMP_NUM_THREADS=1

.PHONY: environments demo hub test test-legacy test-browser quality bench screenshots clean

# Both environments; `make -j2` builds them side by side.
environments: $(VENV)/.ready $(LEGACY_VENV)/.ready

demo: $(VENV)/.ready
	$(THREADS) $(VENV)/bin/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		recipes/elad.py --config recipes/configs/elad_quickstart.yaml $(ARGS)

# A small Hub on this machine, to see what a push uploads; the line it prints sends other commands there.
hub: $(VENV)/.ready
	PYTHONPATH=tests $(VENV)/bin/python -m hub_server $(ARGS)

test: $(VENV)/.ready
	$(THREADS) $(VENV)/bin/python -m pytest -n $(WORKERS) $(ARGS)

test-legacy: $(LEGACY_VENV)/.ready
	$(THREADS) $(LEGACY_VENV)/bin/python -m pytest -n $(WORKERS) $(ARGS)

# Opens the report in headless Chromium: Debian's packages chromium and chromium-driver.
test-browser: $(VENV)/.ready
	$(THREADS) $(VENV)/bin/python -m pytest -m browser $(ARGS)

quality: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.ready
	$(THREADS) $(VENV)/bin/python benchmarks/egss.py
	$(THREADS) $(VENV)/bin/python benchmarks/dispatcher.py
	$(THREADS) $(VENV)/bin/python benchmarks/selection_signals.py

# The pictures of the report in README and docs, from a run of the demo beside rows drawn at random.
screenshots: $(VENV)/.ready
	$(MAKE) demo ARGS="--compare random"
	$(THREADS) $(VENV)/bin/python docs/images/make_screenshots.py out/elad_quickstart

$(VENV)/.ready: pyproject.toml constraints/modern.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(QUIET) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(VENV)/bin/python -m pip install $(QUIET) -c constraints/modern.txt -e ".[test,quality,trackio]"
	touch $@

$(LEGACY_VENV)/.ready: pyproject.toml constraints/legacy.txt
	$(PYTHON) -m venv $(LEGACY_VENV)
	$(LEGACY_VENV)/bin/python -m pip install $(QUIET) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(LEGACY_VENV)/bin/python -m pip install $(QUIET) -c constraints/legacy.txt -e ".[test,tgi]"
	touch $@

clean:
	rm -rf $(VENV) $(LEGACY_VENV) build dist *.egg-info
