"""Encoders: strides, channels and settings of their features."""

import math

import keras
import numpy as np
import pytest

# This module is not public. It contains the table of EfficientNetV2's blocks. If Keras moves the
# table, change only this import.
from keras.src.applications import efficientnet_v2

from lcc_tf.errors import InputError
from lcc_tf.models.encoders import ENCODERS, build_encoder


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *(("mobilenetv2", 8), ("resnet50", 16), ("resnet18_v1.5", 8), ("tiny", 32)),
        # tests/models/test_dilation.py compares the features of small networks at strides 8 and 32.
        *(
            pytest.param(name, output_stride, marks=pytest.mark.slow)
            for name, output_stride in [
                *(("mobilenetv2", 16), ("mobilenetv2", 32), ("resnet50", 8), ("resnet50", 32)),
                *(("resnet18_v1.5", 16), ("resnet18_v1.5", 32)),
            ]
        ),
    ],
)
def test_features_have_the_expected_strides(name, output_stride, zero_weights):
    encoder = build_encoder(name, weights=None, output_stride=output_stride)
    image = keras.KerasTensor((1, 96, 64, 3))
    features = encoder.compute_output_spec(image)
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert [tuple(feature.shape[1:3]) for feature in features] == [
        (96 // stride, 64 // stride) for stride in strides
    ]


@pytest.mark.parametrize(
    ("name", "channels", "preprocessing"),
    [
        ("resnet34_v1.5", [64, 64, 128, 256, 512], "torch"),
        ("resnet50_v1.5", [64, 256, 512, 1024, 2048], "torch"),
        ("resnet50", [64, 256, 512, 1024, 2048], "caffe"),
        ("mobilenetv2", [16, 24, 32, 96, 1280], "tf"),
        ("efficientnetv2b0", [16, 32, 48, 112, 192], "torch"),
        ("convnext_tiny", [96, 192, 384, 768], "torch"),
    ],
)
def test_channels_and_preprocessing(name, channels, preprocessing, zero_weights):
    encoder = build_encoder(name, weights=None, input_shape=(96, 64, 3))
    strides = (2, 4, 8, 16, 32)[-len(channels) :]
    assert [feature.shape[1:] for feature in encoder.outputs] == [
        (96 // stride, 64 // stride, filters)
        for stride, filters in zip(strides, channels, strict=True)
    ]
    assert encoder.get_layer("preprocessing").mode == preprocessing


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
def test_features_of_efficientnets_are_the_last_blocks_of_their_strides(name, table, depth):
    repeats = [
        math.ceil(depth * row["num_repeat"]) for row in efficientnet_v2.DEFAULT_BLOCKS_ARGS[table]
    ]
    last = [f"block{row}{'abcdefghijklmno'[repeats[row - 1] - 1]}" for row in (1, 2, 3, 5, 6)]
    assert [tap.split("_")[0] for tap in ENCODERS[name].taps] == last


def test_size_that_is_not_divisible_by_the_stride_raises():
    with pytest.raises(InputError, match="divisible by 32.*height=100, width=64.*96x64"):
        build_encoder("tiny", weights=None, input_shape=(100, 64, 3))
    with pytest.raises(InputError, match="divisible by 16.*height=64, width=40"):
        build_encoder("tiny", weights=None, output_stride=16)(np.zeros((1, 64, 40, 3)))


def test_unknown_encoder_and_stride_raise():
    with pytest.raises(InputError, match="'vgg16'.*resnet101"):
        build_encoder("vgg16", weights=None)
    with pytest.raises(InputError, match="8, 16 or 32. Received: output_stride=4"):
        build_encoder("tiny", weights=None, output_stride=4)
