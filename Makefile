PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Small images and small encoders with random weights: minutes on two CPU cores, no downloads.
DEMO := --data demo --cache-dir demo/tfds --encoder mobilenetv2 --encoder-weights none \
	--image-size 128 --resume

.PHONY: demo test test-fast lint format

# Trains both networks on procedural scenes, scores them and their ensemble, exports the ensemble.
demo: $(VENV)/installed
	$(BIN)/python train.py --arch unetpp $(DEMO) --epochs 15 --learning-rate 2e-3 \
		--workdir demo/runs/unetpp
	$(BIN)/python train.py --arch deeplabv3plus $(DEMO) --epochs 24 --learning-rate 4e-3 \
		--workdir demo/runs/deeplabv3plus
	$(BIN)/python evaluate.py --ensemble --protocol all --color-baseline \
		--runs demo/runs/unetpp demo/runs/deeplabv3plus --output demo/results --overwrite
	$(BIN)/python export.py --runs demo/runs/unetpp demo/runs/deeplabv3plus \
		--format savedmodel --output demo/exported --overwrite

# Lint, all tests except slow ones, and their coverage. Minutes on two CPU cores.
test: lint
	$(BIN)/python -m pytest --cov

# The loop while you write: no coverage, no long tests (`heavy` in tests/conftest.py). For one
# folder: .venv/bin/python -m pytest tests/cli
test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -m 'not slow and not gpu and not heavy'

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; choose one: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "error: Python's venv is missing; on Debian or Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
