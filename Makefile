# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test coverage quality types style benchmark house clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $(READY)

demo: $(READY)  ## train, unlearn, retrain and compare two small models on scikit-learn's digits
	$(BIN)/hf-lotus demo

test: $(READY)  ## the whole suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: $(READY)  ## the suite, and the lines and branches that no test reaches; what runs in started processes counts not
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing

quality: $(READY)  ## what CI asks of the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## what CI asks of the types
	$(BIN)/mypy

style: $(READY)  ## put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(READY)  ## speed and cost of a run and of an evaluation, against a plain loop and against their limits
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/cost_curve.py
	$(BIN)/python benchmarks/rf_jsd_streaming.py

house: $(READY)  ## a picture of the rooms of the package and of what imports what
	$(BIN)/python -m tests.support.imports docs/house.svg

clean:
	rm -rf $(VENV) demo_output
