# The commands of this project; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NAME   ?= 01_denoise
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run lab test notebooks lint

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  other parameters: make run ARGS='sigma=0.1 run=sigma01'; another notebook: make run NAME=02_epochs"

run: $(VENV)/installed data/finger_numbers/about.json  ## train on the drawn hands and show clean / noisy / denoised
	@$(BIN)/python -m src.run $(NAME) $(ARGS)

lab: $(VENV)/installed data/finger_numbers/about.json  ## open the notebooks in Jupyter
	@$(BIN)/jupyter lab notebooks

test: $(VENV)/installed  ## run every test, the notebooks with tiny parameters among them
	@$(BIN)/python -m pytest

notebooks: $(VENV)/installed data/finger_numbers/about.json  ## re-execute the committed notebooks in place
	@$(BIN)/python -m src.run --in-place

lint: $(VENV)/installed  ## check src, tests and notebooks with ruff
	@$(BIN)/ruff check src tests notebooks
	@$(BIN)/ruff format --check src tests notebooks

# looked at again when the drawing code changes: a set drawn by an older version is named, not used
data/finger_numbers/about.json: src/finger_numbers.py src/drawn_set.py src/hands.py src/scenes.py src/textures.py | $(VENV)/installed
	@$(BIN)/python -m src.data finger_numbers && touch $@

# the virtual environment; installed into again whenever the pins change
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing requirements.txt into $(VENV) (about two minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
