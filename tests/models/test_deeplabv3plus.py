"""DeepLabV3+: dilation rates, output strides and upsampling."""

import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.models import DeepLabV3Plus
from lcc_tf.models.convolutions import AtrousSeparableConv2D


@pytest.mark.parametrize(("output_stride", "rates"), [(16, (12, 24, 36)), (8, (24, 48, 72))])
def test_dilation_rates_and_strides(output_stride, rates):
    model = DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, output_stride=output_stride)
    for rate in rates:
        assert model.get_layer(f"aspp_rate{rate}_conv").dilation_rate == (rate, rate)
    assert model.get_layer("aspp_project_conv").filters == 256
    assert model.get_layer("decoder_low_level_conv").filters == 48
    encoder = model.get_layer("encoder")
    assert encoder.get_layer("stage5_conv").dilation_rate == (32 // output_stride,) * 2
    assert encoder.get_layer("stage4_conv").dilation_rate == (16 // output_stride,) * 2
    assert encoder.get_layer("stage5_conv").strides == (1, 1)
    assert model(np.zeros((1, 64, 32, 3), np.float32)).shape == (1, 64, 32, 7)


def test_output_stride_32_raises():
    with pytest.raises(InputError, match="16 or 8. Received: output_stride=32"):
        DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, output_stride=32)


def test_dilation_rates_of_the_argument_are_used():
    model = DeepLabV3Plus(
        7, encoder="tiny", encoder_weights=None, output_stride=8, dilation_rates=(12, 24, 36)
    )
    atrous = [layer for layer in model.layers if isinstance(layer, AtrousSeparableConv2D)]
    rates = [layer.dilation_rate[0] for layer in atrous]
    assert [rate for rate in rates if rate > 1] == [12, 24, 36]


@pytest.mark.parametrize("rates", [(), (12, 12, 24), (0, 12)])
def test_invalid_dilation_rates_raise(rates):
    with pytest.raises(
        InputError, match=r"different whole numbers.*\(12, 24, 36\). Received: dilation_rates=\("
    ):
        DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, dilation_rates=rates)


def test_align_corners_applies_to_both_upsamplings():
    model = DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, align_corners=True)
    assert model.get_layer("decoder_upsampling").align_corners
    assert model.get_layer("head_upsampling").align_corners
    model = DeepLabV3Plus(7, encoder="tiny", encoder_weights=None)
    assert not model.get_layer("decoder_upsampling").align_corners
    assert not model.get_layer("head_upsampling").align_corners
