import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.mapping.scene_reading import SceneReading


@pytest.mark.parametrize("bands", ["a,b,c", (0, 1, 2), ()])
def test_invalid_bands_raise(bands):
    with pytest.raises(InputError, match="red, green and blue band, such as.*Received: bands="):
        SceneReading(bands=bands)


@pytest.mark.parametrize("scale", [(5, 5), (9, 1), "max", (1, 2, 3), (np.nan, 1), (0, np.inf)])
def test_invalid_scales_raise(scale):
    with pytest.raises(InputError, match="minmax, percentile, or a range.*Received: scale="):
        SceneReading(scale=scale)


@pytest.mark.parametrize("meters", [0, -0.5, np.inf])
def test_invalid_pixel_sizes_raise(meters):
    with pytest.raises(InputError, match=f"`resample_to`.* larger than 0.*resample_to={meters}"):
        SceneReading(resample_to=meters)


def test_valid_options_are_accepted():
    SceneReading(bands=(3, 2, 1), scale="minmax", resample_to=0.5)
    SceneReading(scale=(0, 3000))
    SceneReading()
