"""Properties of UNet++ and DeepLabV3+ that training, ensembles and exports depend on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models import build_model

# Numbers of trainable parameters in the original PyTorch notebooks
ORIGINAL_PARAMETERS = {"unetpp": 67_978_743, "deeplabv3plus": 45_671_255}


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
def test_parameter_counts_equal_the_original_notebooks(arch, zero_weights):
    model = build_model(arch, 7, encoder="resnet101_v1.5", encoder_weights=None)
    trainable = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert trainable == ORIGINAL_PARAMETERS[arch]


@pytest.fixture(scope="module")
def models():
    """Key: architecture. Value: network."""
    return {
        arch: build_model(arch, 5, encoder="tiny", encoder_weights=None)
        for arch in ORIGINAL_PARAMETERS
    }


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_logits_have_the_size_of_the_image(arch, height, width, models):
    logits = models[arch](np.zeros((2, height, width, 3), np.float32))
    assert logits.shape == (2, height, width, 5)
    assert logits.dtype == tf.float32


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
def test_size_that_is_not_divisible_by_the_stride_raises(arch, models):
    with pytest.raises(InputError, match="divisible by.*height=50, width=64"):
        models[arch](np.zeros((1, 50, 64, 3), np.float32))


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
def test_logits_are_float32_under_mixed_precision(arch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_model(arch, 5, encoder="tiny", encoder_weights=None)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model(np.zeros((1, 32, 32, 3), np.float32)).dtype == tf.float32
    assert model.get_layer("encoder").get_layer("stage1_conv").compute_dtype == "bfloat16"


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
def test_loaded_model_returns_the_same_logits(arch, models, tmp_path):
    model = models[arch]
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


@pytest.mark.parametrize("arch", ORIGINAL_PARAMETERS)
def test_encoder_has_the_preprocessing_of_the_argument(arch):
    model = build_model(arch, 5, encoder="tiny", encoder_weights=None, preprocessing="unit")
    assert model.get_layer("encoder").get_layer("preprocessing").mode == "unit"


def test_unknown_architecture_raises():
    with pytest.raises(InputError, match="'segnet'.*unetpp"):
        build_model("segnet", 5)
