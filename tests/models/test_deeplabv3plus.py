import keras
import numpy as np
import pytest

from lcc_tf.models import deeplabv3plus
from lcc_tf.models.blocks import AtrousSeparableConv2D, BilinearUpsampling, BroadcastLike
from tfds_deepglobe.errors import InputError


@pytest.mark.parametrize(("output_stride", "rates"), [(16, (12, 24, 36)), (8, (24, 48, 72))])
def test_rates_and_strides(output_stride, rates):
    model = deeplabv3plus(7, encoder="tiny", encoder_weights=None, output_stride=output_stride)
    for rate in rates:
        assert model.get_layer(f"aspp_rate{rate}_conv").dilation_rate == (rate, rate)
    assert model.get_layer("aspp_project_conv").filters == 256
    assert model.get_layer("decoder_low_level_conv").filters == 48
    encoder = model.get_layer("encoder")
    assert encoder.get_layer("stage5_conv").dilation_rate == (32 // output_stride,) * 2
    assert encoder.get_layer("stage4_conv").dilation_rate == (16 // output_stride,) * 2
    assert encoder.get_layer("stage5_conv").strides == (1, 1)
    assert model(np.zeros((1, 64, 32, 3), np.float32)).shape == (1, 64, 32, 7)


def test_output_stride_32_is_refused():
    with pytest.raises(InputError, match="16 or 8. Received: 32"):
        deeplabv3plus(7, encoder="tiny", encoder_weights=None, output_stride=32)


@pytest.mark.parametrize("rate", [1, 2, 5, 7, 12])
def test_atrous_separable_convolution_is_the_dilated_one(rate):
    keras.utils.set_random_seed(0)
    ours = AtrousSeparableConv2D(4, 3, padding="same", dilation_rate=rate, use_bias=False)
    theirs = keras.layers.SeparableConv2D(4, 3, padding="same", dilation_rate=rate, use_bias=False)
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 5)).astype(np.float32)
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_bilinear_upsampling_by_hand():
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    y = BilinearUpsampling(2)(x).numpy()
    assert y.shape == (1, 2, 4, 1)
    # Pixel centres at half-integers: 0, 1/4, 3/4, 1.
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_broadcast_like():
    x = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    y = BroadcastLike()(x, np.zeros((1, 4, 5, 2), np.float32)).numpy()
    assert y.shape == (1, 4, 5, 3)
    assert (y == x).all()
