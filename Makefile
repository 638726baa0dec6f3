PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Options for small images and a small encoder with random weights. The demo takes minutes on two
# CPU cores and does not download anything.
DEMO := --data demo --cache-dir demo/tfds --encoder mobilenetv2 --encoder-weights none \
	--image-size 128 --resume

.PHONY: demo test test-fast lint format benchmark

# Trains UNet++ and DeepLabV3+ on procedural scenes (synthetic images), scores both networks and
# their ensemble, and exports the ensemble.
demo: $(VENV)/installed
	$(BIN)/python train.py --arch unetpp $(DEMO) --epochs 5 --learning-rate 2e-3 --deep-supervision \
		--workdir demo/runs/unetpp
	$(BIN)/python train.py --arch deeplabv3plus $(DEMO) --epochs 9 --learning-rate 4e-3 \
		--workdir demo/runs/deeplabv3plus
	$(BIN)/python evaluate.py --ensemble --protocol all --color-baseline \
		--runs demo/runs/unetpp demo/runs/deeplabv3plus --output demo/results --overwrite
	$(BIN)/python export.py --runs demo/runs/unetpp demo/runs/deeplabv3plus \
		--format savedmodel --output demo/exported --overwrite

# Runs the linters and all tests except the slow tests, and prints the coverage. Takes minutes on
# two CPU cores.
test: lint
	$(BIN)/python -m slipcover -m pytest

# Use this target while you edit the code. It does not measure the coverage and skips long tests
# (`heavy` in tests/conftest.py). To test one folder, use: .venv/bin/python -m pytest tests/cli
test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -m 'not slow and not gpu and not heavy'

# Measures training steps, predictions and the training data, and estimates costs. During the
# benchmark, no other programs should run. docs/performance.md shows how to compare the speed with
# segmentation_models_pytorch.
benchmark: $(VENV)/installed
	$(BIN)/python -m benchmarks.speed --without-smp --output bench/speed.json
	$(BIN)/python -m benchmarks.data_rates --folder bench/rates
	$(BIN)/python -m benchmarks.cost_model

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; set its name, such as: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "error: the Python module venv is missing; on Debian or Ubuntu, run: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
