"""Preprocessing layer and checks of image sizes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

# These modules are not public. They are needed to build small networks. If Keras moves the modules,
# change only this import.
from keras.src.applications import convnext, efficientnet_v2

from lcc_tf.errors import InputError
from lcc_tf.models import build_model, ensemble
from lcc_tf.models.encoders import ENCODERS, build_encoder
from lcc_tf.models.preprocessing import EncoderPreprocessing, size_divisor


def test_caffe_and_tf_modes():
    image = np.array([[[[10.0, 100.0, 250.0]]]], np.float32)
    caffe = EncoderPreprocessing("caffe", 1)(image).numpy().ravel()
    np.testing.assert_allclose(caffe, [250 - 103.939, 100 - 116.779, 10 - 123.68], rtol=1e-6)
    scaled = EncoderPreprocessing("tf", 1)(image).numpy().ravel()
    np.testing.assert_allclose(scaled, np.array([10, 100, 250]) / 127.5 - 1, rtol=1e-6)


def test_modes_for_models_of_other_software():
    image = np.array([[[[10.0, 100.0, 250.0]]]], np.float32)
    unit = EncoderPreprocessing("unit", 1)(image).numpy()
    np.testing.assert_allclose(unit, image / 255, rtol=1e-6)
    np.testing.assert_array_equal(EncoderPreprocessing("none", 1)(image), image)
    standardized = EncoderPreprocessing("torch", 1)(image * 255).numpy()
    without_scaling = EncoderPreprocessing("torch_255", 1)(image).numpy()
    np.testing.assert_allclose(without_scaling, standardized, rtol=1e-5)
    encoder = build_encoder("tiny", weights=None, preprocessing="unit")
    assert encoder.get_layer("preprocessing").mode == "unit"
    with pytest.raises(InputError, match="Unknown preprocessing.*'imagenet'.*'caffe'.*'unit'"):
        build_encoder("tiny", weights=None, preprocessing="imagenet")


def small_efficientnetv2(name):
    block = efficientnet_v2.DEFAULT_BLOCKS_ARGS[name][:1]
    options = {"include_top": False, "weights": None, "blocks_args": block, "name": name}
    return efficientnet_v2.EfficientNetV2(1, 1, 224, **options), "stem_conv"


def small_convnext(name):
    options = {"include_top": False, "weights": None, "name": name}
    return convnext.ConvNeXt([1] * 4, [2] * 4, **options), f"{name}_stem"


@pytest.mark.parametrize(
    ("encoder", "application", "name"),
    [
        ("efficientnetv2b0", small_efficientnetv2, "efficientnetv2-b0"),
        ("efficientnetv2b3", small_efficientnetv2, "efficientnetv2-b3"),
        ("efficientnetv2s", small_efficientnetv2, "efficientnetv2-s"),
        ("convnext_base", small_convnext, "convnext_base"),
    ],
)
def test_preprocessing_equals_the_preprocessing_layers_of_keras(encoder, application, name):
    model, first = application(name)
    included = keras.Model(model.input, model.get_layer(first).input)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    preprocessed = EncoderPreprocessing(ENCODERS[encoder].preprocessing, 32)(image)
    np.testing.assert_allclose(preprocessed, included(image), atol=1e-6)


def test_preprocessing_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = EncoderPreprocessing("caffe", 1)
    finally:
        keras.config.set_dtype_policy("float32")
    assert layer(np.full((1, 1, 1, 3), 200.0, np.float32)).dtype == tf.float32


def test_size_divisor_is_the_deepest_stride():
    for arch, stride in (("unetpp", 32), ("deeplabv3plus", 16)):
        model = build_model(arch, 3, encoder="tiny", encoder_weights=None)
        assert size_divisor(model) == stride
        assert size_divisor(ensemble([ensemble([model])])) == stride


def test_models_without_preprocessing_accept_any_size():
    assert size_divisor(keras.Sequential([keras.Input((None, None, 3))])) == 1
