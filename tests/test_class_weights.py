import numpy as np
import pytest

from lcc_tf.class_weights import class_weights_from_pixels
from lcc_tf.errors import InputError


def test_inverse_frequency_by_hand():
    # The classes have the fractions 0.6, 0.2, 0 and 0.2 of 100 pixels. The inverse fractions of the
    # classes that occur are 5/3, 5 and 5. The mean of these numbers is 35/9.
    pixels = np.array([[60, 0, 0, 0], [0, 20, 0, 20]])
    weights = class_weights_from_pixels(pixels, "inverse_frequency")
    np.testing.assert_allclose(weights, [3 / 7, 9 / 7, 0, 9 / 7])
    assert weights[weights > 0].mean() == pytest.approx(1)


def test_median_frequency_by_hand():
    # The images have 60 and 40 pixels. Both images contain class 0: f = (60 + 10) / 100 = 0.7. Only
    # the second image contains class 1, f = 10 / 40 = 0.25, and class 3, f = 20 / 40 = 0.5. The
    # median of f is 0.5. Before division by their mean, 26/21, the weights are 5/7, 2 and 1.
    pixels = np.array([[60, 0, 0, 0], [10, 10, 0, 20]])
    weights = class_weights_from_pixels(pixels, "median_frequency")
    np.testing.assert_allclose(weights, np.array([5 / 7, 2, 0, 1]) * 21 / 26)


@pytest.mark.parametrize("method", ["inverse_frequency", "median_frequency"])
def test_ignored_class_is_not_counted(method):
    pixels = np.array([[60, 0, 0, 5], [10, 10, 0, 20]])
    weights = class_weights_from_pixels(pixels, method, ignore_class=0)
    without = class_weights_from_pixels(pixels * [0, 1, 1, 1], method)
    np.testing.assert_array_equal(weights, without)
    assert weights[0] == 0
    assert pixels[0, 0] == 60  # the caller's array is unchanged


def test_invalid_counts_and_methods_raise():
    with pytest.raises(InputError, match="'mean'.*'inverse_frequency'"):
        class_weights_from_pixels(np.ones((1, 2)), "mean")
    with pytest.raises(InputError, match="at least one class.*ignore_class=0"):
        class_weights_from_pixels(np.array([[5, 0]]), "median_frequency", ignore_class=0)


@pytest.mark.parametrize(
    ("pixels", "options", "match"),
    [
        ([5, 3], {}, r"shape \(num_images, num_classes\). Received: shape \(2,\)"),
        ([[[5, 3]]], {}, r"Received: shape \(1, 1, 2\)"),
        ([[5, -3], [2, 4]], {}, "not negative. Received: counts from -3.0 to 5.0"),
        ([[5, float("nan")]], {}, "finite and not negative"),
        ([[5, 3]], {"ignore_class": 2}, r"class id in \[0, 2\). Received: ignore_class=2"),
    ],
)
@pytest.mark.parametrize("method", ["inverse_frequency", "median_frequency"])
def test_invalid_counts_raise(pixels, options, match, method):
    with pytest.raises(InputError, match=match):
        class_weights_from_pixels(np.array(pixels), method, **options)
