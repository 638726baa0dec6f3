import numpy as np
import pytest

from lcc_tf.band_names import colors_of
from lcc_tf.bands import Bands, as_rgb, check_equal_bands, parse_scale
from lcc_tf.errors import InputError

FOUR = Bands(("nir", "B04", "B03", "B02"), ((0, 100), (0, 200), (0, 400), (0, 1000)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": (), "ranges": ()}, "one entry per band. Received: 0 names"),
        ({"names": ("a", "b"), "ranges": ((0, 1),)}, "Received: 2 names and 1 ranges"),
        ({"names": ("a",), "ranges": ((1, 1),)}, "the smaller number first"),
        ({"names": ("a",), "ranges": ((0, np.inf),)}, "`ranges` must be"),
        ({"names": ("a",), "ranges": ((-1e308, 1e308),)}, "the smaller number first"),
        ({"names": ("a",), "ranges": ((0, 1e39),)}, "the smaller number first"),
        ({"names": ("a",), "ranges": ((-3e38, 3e38),)}, "the smaller number first"),
        ({"names": ("a",), "ranges": ((2**25, 2**25 + 1),)}, "the smaller number first"),
        ({"names": ("a",), "ranges": ((0, 1),), "numbers": (1, 2)}, "2 numbers for 1 bands"),
        ({"names": ("a",), "ranges": ((0, 1),), "numbers": (0,)}, "counted from 1"),
        ({"names": ("a", "b"), "ranges": ((0, 1),) * 2, "numbers": (1, 1)}, "band numbers"),
        ({"names": ("Red", "red"), "ranges": ((0, 1),) * 2}, "`names` must be different names"),
        ({"names": ("a", " "), "ranges": ((0, 1),) * 2}, "`names` must be different names"),
    ],
)
def test_invalid_bands_raise(options, message):
    with pytest.raises(InputError, match=message):
        Bands(**options)


def test_json_values_give_equal_bands():
    assert Bands.from_json(FOUR.to_json()) == FOUR
    assert Bands.from_json(None) is None


def test_affine_scales_ranges_to_8_bits():
    factor, offset = Bands(("a", "b"), ((-10, 10), (100, 200))).affine
    scaled = [[-10, 100], [10, 200]] * factor + offset
    np.testing.assert_allclose(scaled, [[0, 0], [255, 255]], atol=1e-4)


def test_affine_of_a_small_range_far_from_zero_is_exact():
    factor, offset = Bands(("a",), ((1e7, 1e7 + 4),)).affine
    values = np.float32([1e7, 1e7 + 1, 1e7 + 4])
    np.testing.assert_allclose(values * factor + offset, [0, 63.75, 255], atol=1e-4)


def test_composite_contains_the_colors_in_their_order():
    image = np.array([[[50, 200, 200, 0], [np.nan, 400, 0, 1000]]])
    np.testing.assert_allclose(FOUR.composite(image), [[[255, 127.5, 0], [255, 0, 255]]])
    np.testing.assert_array_equal(as_rgb(image, None), image)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [25.5] * 3), (2, [25.5] * 3), (4, [25.5, 51, 76.5])]
)
def test_composite_without_colors_contains_the_first_bands(count, expected):
    bands = Bands(tuple(f"band {i}" for i in range(count)), ((0, 10),) * count)
    np.testing.assert_allclose(bands.composite(np.arange(1, count + 1)), expected)


@pytest.mark.parametrize(
    "text", ["", "max", "1", "3,1", "1,1", "0,inf", "nan,1", "1,2,3", "0,1e40"]
)
def test_invalid_scales_raise(text):
    with pytest.raises(InputError, match="`scale` must be one of percentile, minmax, dtype"):
        parse_scale(text)


def test_two_bands_with_the_same_color_have_no_color():
    assert colors_of(["red", "red edge", "Red 665 nm", "green"]) == (None, None, None, "green")


def test_other_bands_raise():
    check_equal_bands([FOUR, Bands(FOUR.names, ((0, 1),) * 4)])  # the ranges may differ
    check_equal_bands([FOUR, Bands(("NIR", "b04", "B03", "B02"), FOUR.ranges)])
    with pytest.raises(InputError, match="same bands. Received: RGB and nir, B04, B03, B02"):
        check_equal_bands([None, FOUR])


@pytest.mark.parametrize("ranges", [None, (0, 3000), ((0, 1, 2),), (("a", "b"),)])
def test_ranges_that_are_not_pairs_raise(ranges):
    with pytest.raises(InputError, match="`ranges` must be"):
        Bands(("a",), ranges)
