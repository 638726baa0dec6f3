"""Networks for images with bands."""

import keras
import numpy as np
import pytest

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.models import UNetPlusPlus, build_encoder, build_model, ensemble
from lcc_tf.models.preprocessing import PREPROCESSING_MODES, EncoderPreprocessing, bands_of

RANGE = (100, 3100)
FIVE = Bands(("nir", "B04", "B03", "B02", "swir"), (RANGE,) * 5)
RGB = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)


def raw(rgb):
    """Converts RGB in [0, 255] to values in `RANGE`."""
    return rgb / 255 * (RANGE[1] - RANGE[0]) + RANGE[0]


def five_bands(rgb):
    noise = np.random.default_rng(1).uniform(*RANGE, (*rgb.shape[:3], 1))
    return np.concatenate([noise, raw(rgb), noise], axis=-1).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_encoder):
    """Weights file of the encoder "tiny"."""
    file = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    keras.utils.set_random_seed(0)
    build = build_encoder.__globals__["ENCODERS"][tiny_encoder].application
    build(False, None, keras.Input((None, None, 3))).save_weights(file)
    return str(file)


@pytest.mark.parametrize("mode", PREPROCESSING_MODES)
def test_preprocessing_of_colors_equals_rgb(mode):
    expected = EncoderPreprocessing(mode, 1)(RGB).numpy()
    bands = Bands(("red", "green", "blue"), (RANGE,) * 3)
    actual = EncoderPreprocessing(mode, 1, bands)(raw(RGB)).numpy()
    if mode == "caffe":  # BGR; bands keep their order
        expected = expected[..., ::-1]
    np.testing.assert_allclose(actual, expected, atol=1e-3 * max(1, np.abs(expected).max() / 100))


def test_values_outside_the_range_are_clipped():
    layer = EncoderPreprocessing("unit", 1, Bands(("a",), ((10, 20),)))
    image = np.array([5, 10, 15, 20, 1e6], np.float32).reshape(1, 1, 5, 1)
    np.testing.assert_allclose(layer(image).numpy().ravel(), [0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize("low", [-1e7, 101_000, 1e7])
def test_small_ranges_far_from_zero_are_exact(low):
    layer = EncoderPreprocessing("tf", 1, Bands(("a",), ((low, low + 3),)))
    image = np.array([low, low + 1, low + 3], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(layer(image).numpy().ravel(), [-1, -1 / 3, 1], atol=1e-6)


def test_features_of_zero_new_bands_equal_rgb(weights):
    expected = build_encoder("tiny", weights=weights)(RGB)
    encoder = build_encoder("tiny", weights=weights, bands=FIVE, new_bands="zero")
    for feature, other in zip(encoder(five_bands(RGB)), expected, strict=True):
        np.testing.assert_allclose(feature, other, atol=1e-5)


def test_features_of_gray_images_keep_their_size(weights):
    gray = RGB[..., :1].repeat(3, axis=-1)
    expected = build_encoder("tiny", weights=weights, preprocessing="unit")(gray)
    encoder = build_encoder("tiny", weights=weights, preprocessing="unit", bands=FIVE)
    for feature, other in zip(encoder(raw(gray[..., :1].repeat(5, -1))), expected, strict=True):
        np.testing.assert_allclose(feature, other, atol=2e-4)


def test_three_bands_in_another_order_keep_their_kernels(weights):
    expected = build_encoder("tiny", weights=weights)(RGB)
    bands = Bands(("blue", "red", "green"), (RANGE,) * 3)
    encoder = build_encoder("tiny", weights=weights, bands=bands)
    for feature, other in zip(encoder(raw(RGB)[..., [2, 0, 1]]), expected, strict=True):
        np.testing.assert_allclose(feature, other, atol=1e-5)


def test_zero_without_colors_raises(weights):
    bands = Bands(("vv", "vh"), ((-25, 0),) * 2)
    with pytest.raises(InputError, match="needs a band that is red, green or blue.*vv, vh"):
        build_encoder("tiny", weights=weights, bands=bands, new_bands="zero")
    with pytest.raises(InputError, match="`new_bands` must be one of.*Received: new_bands='max'"):
        build_encoder("tiny", weights=None, bands=bands, new_bands="max")


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_saved_networks_keep_their_bands(arch, tmp_path, tiny_encoder):
    model = build_model(arch, 3, encoder=tiny_encoder, encoder_weights=None, bands=FIVE)
    assert model.input_shape == (None, None, None, 5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert bands_of(loaded) == bands_of(ensemble([loaded])) == FIVE
    image = five_bands(RGB)
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-5)


def test_input_shape_with_other_channels_raises(tiny_encoder):
    with pytest.raises(InputError, match=r"\(height, width, 5\), because there are 5 `bands`"):
        UNetPlusPlus(
            3, encoder=tiny_encoder, encoder_weights=None, bands=FIVE, input_shape=(64, 64, 3)
        )


def test_members_with_other_bands_raise(tiny_encoder):
    options = {"encoder": tiny_encoder, "encoder_weights": None}
    members = [UNetPlusPlus(3, **options), UNetPlusPlus(3, bands=FIVE, **options)]
    with pytest.raises(InputError, match="same bands. Received: RGB and nir, B04"):
        ensemble(members)


@pytest.mark.parametrize("bands", [("a", "b"), {"names": ["a"], "ranges": [[0, 1]]}, 4])
def test_bands_of_another_type_raise(tiny_encoder, bands):
    with pytest.raises(InputError, match="`bands` must be `lcc_tf.Bands`, or None for RGB"):
        UNetPlusPlus(7, encoder=tiny_encoder, encoder_weights=None, bands=bands)
