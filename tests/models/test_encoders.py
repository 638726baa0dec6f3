"""Encoders: strides, channels and settings of their features."""

import math

import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet_v2

from lcc_tf.errors import InputError
from lcc_tf.models.encoders import ENCODERS, build_encoder


@pytest.fixture
def no_random_weights(monkeypatch):
    """Weights of zeros, which take no time to draw."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    )


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50", "resnet18_v1.5"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_have_their_strides(name, output_stride, no_random_weights):
    encoder = build_encoder(name, weights=None, output_stride=output_stride)
    features = encoder(np.zeros((1, 96, 64, 3), np.float32))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert [tuple(feature.shape[1:3]) for feature in features] == [
        (96 // stride, 64 // stride) for stride in strides
    ]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet34_v1.5", [64, 64, 128, 256, 512]),
        ("resnet50_v1.5", [64, 256, 512, 1024, 2048]),
        ("efficientnetv2b0", [16, 32, 48, 112, 192]),
        ("convnext_tiny", [96, 192, 384, 768]),
    ],
)
def test_features_channels(name, channels, no_random_weights):
    features = build_encoder(name, weights=None, input_shape=(96, 64, 3)).outputs
    strides = (2, 4, 8, 16, 32)[-len(channels) :]
    assert [feature.shape[1:] for feature in features] == [
        (96 // stride, 64 // stride, filters)
        for stride, filters in zip(strides, channels, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "table", "depth"),
    [
        ("efficientnetv2b0", "efficientnetv2-b0", 1.0),
        ("efficientnetv2b1", "efficientnetv2-b1", 1.1),
        ("efficientnetv2b2", "efficientnetv2-b2", 1.2),
        ("efficientnetv2b3", "efficientnetv2-b3", 1.4),
        ("efficientnetv2s", "efficientnetv2-s", 1.0),
    ],
)
def test_efficientnets_taps_are_the_last_blocks_of_their_strides(name, table, depth):
    repeats = [
        math.ceil(depth * row["num_repeat"]) for row in efficientnet_v2.DEFAULT_BLOCKS_ARGS[table]
    ]
    last = [f"block{row}{'abcdefghijklmno'[repeats[row - 1] - 1]}" for row in (1, 2, 3, 5, 6)]
    assert [tap.split("_")[0] for tap in ENCODERS[name].taps] == last


def test_encoder_uses_each_networks_own_preprocessing():
    assert build_encoder("resnet50", weights=None).get_layer("preprocessing").mode == "caffe"
    assert build_encoder("mobilenetv2", weights=None).get_layer("preprocessing").mode == "tf"


def test_size_that_the_stride_does_not_divide():
    with pytest.raises(InputError, match="divisible by 32.*height=100, width=64.*96x64"):
        build_encoder("tiny", weights=None, input_shape=(100, 64, 3))
    with pytest.raises(InputError, match="divisible by 16.*height=64, width=40"):
        build_encoder("tiny", weights=None, output_stride=16)(np.zeros((1, 64, 40, 3)))


def test_unknown_encoder_and_stride():
    with pytest.raises(InputError, match="'vgg16'.*resnet101"):
        build_encoder("vgg16", weights=None)
    with pytest.raises(InputError, match="8, 16 or 32. Received: output_stride=4"):
        build_encoder("tiny", weights=None, output_stride=4)
