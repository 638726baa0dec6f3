import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models import DeepLabV3Plus
from lcc_tf.models.blocks import (
    AtrousSeparableConv2D,
    BilinearUpsampling,
    BroadcastLike,
    ChannelwiseConv2D,
)


@pytest.mark.parametrize(("output_stride", "rates"), [(16, (12, 24, 36)), (8, (24, 48, 72))])
def test_rates_and_strides(output_stride, rates):
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


def test_output_stride_32_is_refused():
    with pytest.raises(InputError, match="16 or 8. Received: 32"):
        DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, output_stride=32)


def test_rates_of_ones_own():
    model = DeepLabV3Plus(
        7, encoder="tiny", encoder_weights=None, output_stride=8, dilation_rates=(12, 24, 36)
    )
    atrous = [layer for layer in model.layers if isinstance(layer, AtrousSeparableConv2D)]
    rates = [layer.dilation_rate[0] for layer in atrous]
    assert [rate for rate in rates if rate > 1] == [12, 24, 36]


@pytest.mark.parametrize("rates", [(), (12, 12, 24), (0, 12)])
def test_rates_that_cannot_be_used(rates):
    with pytest.raises(InputError, match=r"different whole numbers.*\(12, 24, 36\). Received: \("):
        DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, dilation_rates=rates)


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


def same_as(theirs, ours, shape):
    """Compares two layers with the same random weights on a random map."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)
    config = ours.get_config()
    assert type(ours).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "options",
    [
        {"dilation_rate": 3},  # with a bias
        {"dilation_rate": 3, "activation": "sigmoid"},
        {"dilation_rate": 3, "padding": "valid"},
        {"dilation_rate": 3, "depth_multiplier": 2},
        {"strides": 2},
        {"strides": 2, "padding": "valid", "activation": "relu", "use_bias": False},
    ],
)
def test_atrous_separable_convolution_honours_all_arguments_of_keras(options):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "bias_initializer": "uniform"} | options
    same_as(
        keras.layers.SeparableConv2D(4, 3, **options),
        AtrousSeparableConv2D(4, 3, **options),
        (2, 9, 8, 5),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False},
        {"activation": "relu"},
        {"strides": 2, "padding": "valid"},
        {"strides": (1, 2)},
        {"groups": 3},
    ],
)
def test_channelwise_convolution_honours_all_arguments_of_keras(options):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "groups": 6, "bias_initializer": "uniform"} | options
    same_as(keras.layers.Conv2D(6, 3, **options), ChannelwiseConv2D(6, 3, **options), (2, 8, 9, 6))


def test_groups_of_several_channels_are_convolved_as_keras_does():
    keras.utils.set_random_seed(0)
    same_as(keras.layers.Conv2D(3, 3, groups=3), ChannelwiseConv2D(3, 3, groups=3), (1, 8, 8, 6))


@pytest.mark.parametrize("factor", [0, 1.5, -2])
def test_upsampling_factors_that_cannot_be_used(factor):
    with pytest.raises(InputError, match=f"whole number of at least 1. Received: factor={factor}"):
        BilinearUpsampling(factor)


def test_bilinear_upsampling_by_hand():
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    y = BilinearUpsampling(2)(x).numpy()
    assert y.shape == (1, 2, 4, 1)
    # Pixel centres at half-integers: 0, 1/4, 3/4, 1.
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_bilinear_upsampling_with_aligned_corners_by_hand():
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    y = BilinearUpsampling(2, align_corners=True)(x).numpy()
    assert y.shape == (1, 2, 4, 1)
    # The first and the last pixel stay, the others divide the distance: 0, 1/3, 2/3, 1.
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 1 / 3, 2 / 3, 1]] * 2, rtol=1e-6)


def test_aligned_corners_are_saved_and_exported(tmp_path):
    inputs = keras.Input((None, None, 1))
    outputs = BilinearUpsampling(4, align_corners=True)(inputs)
    model = keras.Model(inputs, outputs)
    assert outputs.shape == (None, None, None, 1)
    image = np.random.default_rng(0).normal(size=(1, 3, 5, 1)).astype(np.float32)
    expected = model(image).numpy()
    np.testing.assert_allclose(expected[:, ::11, ::19], image[:, ::2, ::4], atol=1e-6)  # corners
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(image), expected)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(image), expected, atol=1e-6)


def test_both_upsamplings_align_corners():
    model = DeepLabV3Plus(7, encoder="tiny", encoder_weights=None, align_corners=True)
    assert model.get_layer("decoder_upsampling").align_corners
    assert model.get_layer("head_upsampling").align_corners
    model = DeepLabV3Plus(7, encoder="tiny", encoder_weights=None)
    assert not model.get_layer("decoder_upsampling").align_corners
    assert not model.get_layer("head_upsampling").align_corners


def test_channelwise_convolution_is_keras_grouped_one():
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "dilation_rate": 2, "bias_initializer": "uniform"}
    theirs = keras.layers.Conv2D(6, 7, groups=6, **options)
    ours = ChannelwiseConv2D(6, 7, groups=6, **options)
    x = np.random.default_rng(0).normal(size=(2, 12, 9, 6)).astype(np.float32)
    expected = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)


def test_broadcast_like():
    x = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    y = BroadcastLike()(x, np.zeros((1, 4, 5, 2), np.float32)).numpy()
    assert y.shape == (1, 4, 5, 3)
    assert (y == x).all()
