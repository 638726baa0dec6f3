"""ResNet with the layers of torchvision: padding, strides and parameter counts."""

import math

import keras
import pytest

from lcc_tf.models.encoders import build_encoder
from lcc_tf.models.resnet_v1_5 import RESNETS, resnet_v1_5


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Numbers in the documentation of torchvision, minus the classifier with 1000 classes
        ("resnet18_v1.5", 11_689_512 - 513_000),
        ("resnet34_v1.5", 21_797_672 - 513_000),
        ("resnet50_v1.5", 25_557_032 - 2_049_000),
        # tests/models/test_architectures.py counts the parameters of networks with resnet101.
        pytest.param("resnet101_v1.5", 44_549_160 - 2_049_000, marks=pytest.mark.slow),
        ("resnet152_v1.5", 60_192_808 - 2_049_000),
    ],
)
def test_parameter_counts_equal_torchvision(name, parameters, zero_weights):
    network = resnet_v1_5(RESNETS[name], keras.Input((32, 32, 3)))
    assert sum(math.prod(weight.shape) for weight in network.trainable_weights) == parameters


def test_padding_and_strides_equal_torchvision(zero_weights):
    layer = build_encoder("resnet50_v1.5", weights=None).get_layer
    assert layer("conv1_pad").padding == ((3, 3), (3, 3))
    assert layer("conv3_block1_1_conv").strides == (1, 1)
    assert layer("conv3_block1_2_pad").padding == ((1, 1), (1, 1))
    assert layer("conv3_block1_2_conv").strides == (2, 2)
    assert layer("conv3_block1_2_conv").padding == "valid"
    assert layer("conv3_block1_0_conv").strides == (2, 2)
    assert layer("conv3_block1_2_bn").epsilon == 1e-5
    assert layer("conv3_block1_2_bn").momentum == 0.9
    assert not layer("conv3_block1_2_conv").use_bias
