# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
# What is never imported needs no bytecode: to compile all of it takes half of the time.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint

.PHONY: demo test test-oldest test-timm coverage quality types style docs benchmark shipped-help house clean

# What holds the trainer to transformers' own, by which the oldest release that is allowed is told from a newer one.
OLDEST := .venv-oldest
TIMM := .venv-timm
SEAM := seam trainer trainer_resume trainer_rounds

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) constraints.txt --editable ".[test]"
	touch $(READY)

$(DOCS_READY): $(READY)
	$(INSTALL) constraints.txt --editable ".[docs]"
	touch $(DOCS_READY)

demo: $(READY)  ## train, unlearn, retrain and compare two small models on scikit-learn's digits
	$(BIN)/hf-lotus demo

test: $(READY)  ## the whole suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: $(READY)  ## the suite, and the lines and branches that no test reaches; what runs in started processes counts not
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing

$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --editable ".[test]"
	touch $@

test-oldest: $(OLDEST)/.ready  ## the trainer's tests with the oldest transformers that is allowed
	$(OLDEST)/bin/python -m pytest tests/test_layering.py $(SEAM:%=tests/trainer/test_%.py)

$(TIMM)/.ready: pyproject.toml constraints-timm.txt
	$(PYTHON) -m venv $(TIMM)
	$(TIMM)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-timm.txt --editable ".[test,timm]" torchvision
	touch $@

test-timm: $(TIMM)/.ready  ## timm's models, where torch and torchvision fit each other
	$(TIMM)/bin/python -m pytest tests/models/test_timm.py

quality: $(READY)  ## what CI asks of the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## what CI asks of the types
	$(BIN)/mypy

style: $(READY)  ## put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_READY)  ## the pages of docs/ and the API reference, as a site in site/
	$(BIN)/mkdocs build

benchmark: $(READY)  ## speed and cost of a run and of an evaluation, against a plain loop and against their limits
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/cost_curve.py
	$(BIN)/python benchmarks/rf_jsd_streaming.py

shipped-help: $(READY)  ## the help that the commands print, written anew after a change of their options
	$(BIN)/python -m hf_lotus.cli.write_help

house: $(READY)  ## a picture of the rooms of the package and of what imports what
	$(BIN)/python -m tests.support.imports docs/house.svg

clean:
	rm -rf $(VENV) $(OLDEST) $(TIMM) demo_output site
