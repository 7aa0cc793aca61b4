# The commands of this project; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
NAME   ?= 01_denoise
ARGS   ?=
DRAWN  := data/finger_numbers/about.json
TEST   := -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install run lab test test-slow notebooks tables lint

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  other parameters: make run ARGS='sigma=0.1 run=sigma01'; another notebook: make run NAME=02_epochs"

install: $(VENV)/installed  ## the virtual environment, with requirements.txt

run: $(VENV)/installed $(DRAWN)  ## train on the drawn hands and show clean / noisy / denoised
	@$(BIN)/python -m src.run $(NAME) $(ARGS)

lab: $(VENV)/installed $(DRAWN)  ## open the project in Jupyter
	@$(BIN)/python -m jupyter lab $(ARGS)

test: $(VENV)/installed  ## run the tests, the notebooks with tiny parameters among them
	@$(BIN)/python $(TEST) -m "not slow"

test-slow: $(VENV)/installed  ## run what takes longer: 200 kills, several processes, the package
	@$(BIN)/python $(TEST) -m slow

notebooks: $(VENV)/installed $(DRAWN)  ## re-execute the committed notebooks in place
	@$(BIN)/python -m src.run --in-place

tables: $(VENV)/installed  ## write the tables of README.md and PROGRESS.md from the records
	@$(BIN)/python -m src.studies.tables

lint: $(VENV)/installed  ## check src, tests and notebooks with ruff
	@$(BIN)/python -m ruff check src tests notebooks
	@$(BIN)/python -m ruff format --check src tests

# looked at again when the drawing code changes: a set drawn by an older version is named, not used
$(DRAWN): $(wildcard src/datasets/*.py) | $(VENV)/installed
	@$(BIN)/python -m src.datasets finger_numbers && touch $@

# the virtual environment; installed into again whenever the pins change
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing requirements.txt into $(VENV) (about two minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
