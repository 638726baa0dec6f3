"""Trains, scores, saves, loads and exports every architecture."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import ARCHITECTURES
from lcc_tf.models.segmentation_models import BASELINES
from lcc_tf.runs import load_ensemble, read_run
from lcc_tf.scoring.evaluate_runs import evaluate_runs, open_dataset
from lcc_tf.training.train import train

# The test takes half a minute per architecture. Faster tests in other folders cover each step.
pytestmark = pytest.mark.slow


@pytest.fixture
def trained(request, runs, tiny_config, tmp_path):
    """Returns a trained run of the architecture."""
    arch = request.param
    if arch not in BASELINES:
        return read_run(runs / arch)
    config = dataclasses.replace(
        tiny_config, arch=arch, encoder="resnet18", image_size=32, epochs=1
    )
    # Use eager mode only for the training, because exporting needs a graph.
    tf.config.run_functions_eagerly(True)
    try:
        train(config, tmp_path / arch)
    finally:
        tf.config.run_functions_eagerly(False)
    return read_run(tmp_path / arch)


@pytest.mark.parametrize("trained", ARCHITECTURES, indirect=True)
def test_train_evaluate_save_load_export(trained, runs, tmp_path):
    other = read_run(runs / ("deeplabv3plus" if trained.name == "unetpp" else "unetpp"))
    evaluation = evaluate_runs([trained, other], open_dataset([trained, other]), split="validation")
    scores = evaluation.scores["original"]
    assert list(scores) == [trained.name, other.name, "ensemble"]
    assert all(0 <= score["pixel_accuracy"] <= 1 for score in scores.values())

    model = load_ensemble([trained])
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 64, 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)
    (exported,) = export_savedmodel(SourceModel(loaded, trained.classes, 64), tmp_path / "exported")
    assert exported.agreement.max_difference < 1e-4
