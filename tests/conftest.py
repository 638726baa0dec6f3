"""Order and marks of the tests. `tests/fixtures.py` contains the shared fixtures."""

import gc
import os
import signal
from pathlib import Path

# TensorFlow and Keras read these variables when they are imported. The commands also set the
# variables.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

ROOT = Path(__file__).parents[1]
# Files whose tests take the longest time, in descending order. The worker processes start with
# these files. Otherwise one worker could still run a long file when all other workers are finished.
# `make test-fast` skips these files and all tests that need trained runs.
HEAVY = (
    "tests/integration/test_documentation.py",
    "tests/training/test_train.py",
    "tests/integration/test_processes.py",
    "tests/training/test_resuming.py",
    "tests/models/test_keras_api.py",
    "tests/training/test_xla.py",
    "tests/models/test_segmentation_models.py",
    "tests/training/test_graphs.py",
    "tests/scoring/test_evaluate_runs.py",
    "tests/integration/test_bands.py",
    "tests/exporting/test_savedmodel.py",
    "tests/test_docstrings.py",
    "tests/exporting/test_litert.py",
    "tfds_deepglobe/beam_shards_test.py",
    "tests/training/test_replicas.py",
    "tests/test_torch_runs.py",
    "tests/integration/test_any_classes.py",
    "tests/models/test_losses_of_architectures.py",
    "tests/data/test_pipeline.py",
    "tests/models/test_dilation.py",
    "tests/exporting/test_onnx.py",
    "tests/scoring/test_evaluate.py",
    "tests/models/test_architectures.py",
    "tests/test_package.py",
    "tests/prediction/test_predictors.py",
    "tests/exporting/test_export.py",
    "tests/training/test_rendezvous.py",
    "tests/mapping/test_beam_parts.py",
    "tests/training/test_checkpoints.py",
    "tfds_deepglobe/command_line_test.py",
    "tests/training/test_training_data.py",
    "tests/models/test_normalization.py",
    "tfds_deepglobe/prepare_test.py",
    "tests/models/test_encoders.py",
    "tests/models/test_encoder_weights.py",
    "tests/models/test_torch_weights.py",
    "tests/test_migration.py",
    "tests/mapping/test_geodesy.py",
)

# If pytest runs in the background, pytest and the commands that it starts ignore SIGINT. Some tests
# interrupt commands with SIGINT. Therefore restore the default handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Loads the fixtures in processes that run tests.

    A process that only starts worker processes does not need them. The import of TensorFlow would
    delay the workers by seconds.
    """
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(items):
    """Marks heavy tests and moves the files in `HEAVY` to the start of the test order."""
    places = {ROOT / name: place for place, name in enumerate(HEAVY)}
    for item in items:
        if item.path in places or "runs" in item.fixturenames:
            item.add_marker("heavy")
    items.sort(key=lambda item: places.get(item.path, len(HEAVY)))


def pytest_collection_finish():
    """Excludes all imported modules from garbage collection, which would take much longer."""
    gc.freeze()
