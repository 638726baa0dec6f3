import numpy as np
import pytest

from lcc_tf.bands import Bands
from lcc_tf.range_check import RangeCheck

BANDS = Bands(("red", "nir"), ((0, 1000), (120, 3000)), dtype="uint16")


def warning(values, dtype="uint16", bands=BANDS):
    check = RangeCheck(bands)
    for part in np.array_split(np.array(values, np.float32), 2):
        check.add(part)
    return check.warning(dtype)


def test_values_outside_the_range_of_a_band_are_reported():
    text = warning([[500, 0.1], [500, 0.2], [500, 0.3], [500, 200]])
    assert text.startswith(
        "warning: 75 % of the values of band nir are outside [120, 3000], the range of the training"
    )
    assert "dtype" not in text
    assert "1 other band" in warning([[-1, 0.1]])


@pytest.mark.parametrize("values", [[[0, 120], [1000, 3000], [2000, 4000]], np.zeros((0, 2))])
def test_images_with_usual_values_cause_no_warning(values):
    assert warning(values) is None


def test_another_dtype_is_reported():
    text = "the dtype is float32, but the training images have the dtype uint16"
    assert text in warning([[500, 500]], "float32")
    unknown = Bands(BANDS.names, BANDS.ranges)
    assert warning([[500, 500]], "float32", unknown) is None
