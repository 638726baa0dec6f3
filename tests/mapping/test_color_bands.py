import re

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.mapping.color_bands import find_color_bands, find_named_bands, integer_range
from tests.mapping.scenes import noise, write_scene

RED, GREEN, BLUE, ALPHA, GRAY = (
    ColorInterp[name] for name in ("red", "green", "blue", "alpha", "gray")
)
UNDEFINED, NIR = ColorInterp.undefined, ColorInterp.nir
RGBA = [RED, GREEN, BLUE, ALPHA]


def found(path, bands=None):
    with rasterio.open(path) as dataset:
        return find_color_bands(path, dataset, bands)


def described(tmp_path, descriptions, **options):
    """Writes a scene whose bands have descriptions."""
    path = write_scene(tmp_path / "a.tif", noise(8, 9, len(descriptions)), **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = descriptions
    return path


@pytest.mark.parametrize(
    ("interpretation", "colors"),
    [
        ([RED, GREEN, BLUE], (1, 2, 3)),
        ([BLUE, GREEN, RED], (3, 2, 1)),
        ([BLUE, GREEN, RED, NIR], (3, 2, 1)),
        ([NIR, UNDEFINED, GREEN, RED, BLUE], (4, 3, 5)),
        ([GRAY, UNDEFINED, UNDEFINED], (1, 2, 3)),
    ],
)
def test_color_interpretation_is_the_order_of_the_colors(tmp_path, interpretation, colors):
    image = noise(8, 9, len(interpretation))
    bands = found(write_scene(tmp_path / "a.tif", image, colorinterp=interpretation))
    assert bands.colors == colors
    expected = [f"bands {','.join(map(str, colors))} are red, green and blue"]
    assert [note[: len(expected[0])] for note in bands.notes] == (
        [] if colors == (1, 2, 3) else expected
    )


@pytest.mark.parametrize(
    ("descriptions", "colors"),
    [
        (("Blue", "Green", "Red"), (3, 2, 1)),
        (("Band 1 - blue", "Band 2 - green", "band_3 RED", "near infrared"), (3, 2, 1)),
        (("coastal blue", "blue", "green i", "green", "yellow", "red", "red edge"), (6, 4, 2)),
        (("B", "G", "R"), (3, 2, 1)),
        (("B4", "B3", "B2"), (1, 2, 3)),
        (("B2, central wavelength 490 nm", "B3, 560 nm", "B4, 665nm", "B8, 842 nm"), (3, 2, 1)),
        (("Blue (450-515 nm)", "Green 525-605 nm", "Red, 665.1 nm"), (3, 2, 1)),
        (("630 - 680 nm", "525-605 nm", "450-515 nm"), (1, 2, 3)),
        (("Coastal 430-450 nm", "blue", "green", "red"), (4, 3, 2)),
        (("Blue (B2)", "Green (B3)", "Red (B4)"), (3, 2, 1)),
        (("SR_B2 surface reflectance blue", "SR_B3 green", "SR_B4 red", "SWIR1"), (3, 2, 1)),
        (("0.49 um", "0.56 µm", ".665 μm"), (3, 2, 1)),
        (("width 65 nm, 490 nm", "width 35 nm, 560 nm", "width 30 nm, 665 nm"), (3, 2, 1)),
        (("red", None, "blue"), (1, 2, 3)),
        (("8-bit A", None, None), (1, 2, 3)),
    ],
)
def test_descriptions_are_the_order_of_the_colors(tmp_path, descriptions, colors):
    assert found(described(tmp_path, descriptions)).colors == colors


@pytest.mark.parametrize(
    ("descriptions", "texts"),
    [
        (("B2", "B3", "B4"), "B2, B3, B4"),
        (("red", None, "blue"), "red, blue"),
        (("Band 1", "channel 2", "3"), None),
        ((None, None, None), None),
    ],
)
def test_descriptions_without_colors_are_reported(tmp_path, descriptions, texts):
    options = {} if texts == "red, blue" else {"photometric": "MINISBLACK"}
    notes = found(described(tmp_path, descriptions, **options)).notes
    expected = f"warning: the descriptions of bands 1,2,3 [(]{texts}[)].*`bands`"
    assert bool(texts and options) == bool(notes and re.match(expected, *notes))


@pytest.mark.parametrize(
    ("descriptions", "interpretation"),
    [
        (("nir", "red", "green"), [GRAY, UNDEFINED, UNDEFINED]),
        (("NIR", "R", "G"), [RED, GREEN, BLUE]),
        (("Near infrared", None, None), [RED, GREEN, BLUE]),
        (("green", None, None), [RED, GREEN, BLUE]),
        (("B8 (842 nm)", "B4 (665 nm)", "B3 (560 nm)"), [RED, GREEN, BLUE]),
        ((None, None, None), [RED, GREEN, UNDEFINED]),
        ((None, None, None), [ColorInterp.hue, ColorInterp.saturation, ColorInterp.lightness]),
        ((None, None, None), [RED, RED, BLUE]),
        ((None,) * 4, [GRAY, UNDEFINED, UNDEFINED, UNDEFINED]),
    ],
)
def test_bands_that_cannot_be_identified_raise(tmp_path, descriptions, interpretation):
    path = described(tmp_path, descriptions, colorinterp=interpretation)
    with pytest.raises(InputError, match="cannot be identified. Choose these bands with `bands`"):
        found(path)
    assert found(path, (3, 1, 2)).colors == (3, 1, 2)


def test_message_for_many_bands_is_short(tmp_path):
    path = write_scene(tmp_path / "a.tif", noise(8, 9, 200), photometric="MINISBLACK")
    with pytest.raises(
        InputError, match=r"200 band\(s\) \(gray, (undefined, ){5}\.\.\.\)"
    ) as error:
        found(path)
    assert len(str(error.value)) < 300 + len(str(path))


@pytest.mark.parametrize("bands", [None, (1, 2, 3)])
@pytest.mark.parametrize(
    ("opaque", "dtype"), [(255, "uint8"), (1, "uint8"), (65535, "uint16"), (32767, "int16")]
)
def test_band_of_transparent_and_opaque_pixels_is_a_mask(tmp_path, bands, opaque, dtype):
    image = noise(100, 20, 4, dtype)
    image[..., 3] = opaque
    image[:30, :, 3] = 0
    image[30, ::2, 3] = 1  # 0.5 % of the pixels are semitransparent
    bands = found(write_scene(tmp_path / "a.tif", image, colorinterp=RGBA), bands)
    assert (bands.mask, bands.unused_alpha) == (4, False)
    assert bands.notes == ("band 4 is the transparency mask; about 30.0% of the pixels are nodata",)


def infrared(water, land):
    """Near infrared that is 0 in the given fraction of the pixels, and `land` elsewhere."""
    image = noise(100, 20, 4)
    image[: round(100 * water), :, 3] = 0
    image[round(100 * water) :, :, 3] = land
    return image


@pytest.mark.parametrize(
    ("water", "land"),
    [(0.6, np.arange(1, 21)), (0, np.arange(20)), (0.995, 180), (0.5, 80), (1, 0)],
)
def test_near_infrared_marked_as_transparency_is_not_a_mask(tmp_path, water, land):
    path = write_scene(tmp_path / "a.tif", infrared(water, land), colorinterp=RGBA)
    with pytest.raises(InputError, match="Band 4 is marked as transparency.*not a mask"):
        found(path)
    bands = found(path, (1, 2, 3))
    assert bands.unused_alpha
    assert bands.notes == (
        "band 4 is marked as transparency, but is not used: its values are not a mask",
    )


def test_transparency_band_is_not_a_mask_if_the_user_chooses_it(tmp_path):
    path = write_scene(tmp_path / "a.tif", infrared(0.5, 255), colorinterp=RGBA)
    bands = found(path, (4, 1, 2))
    assert (bands.colors, bands.unused_alpha, bands.notes) == ((4, 1, 2), True, ())


def test_transparency_of_an_empty_image_is_a_mask(tmp_path):
    image = np.zeros((8, 9, 4), np.uint8)
    assert not found(write_scene(tmp_path / "a.tif", image, colorinterp=RGBA)).unused_alpha


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64"])
def test_complex_bands_raise(tmp_path, dtype):
    path = write_scene(tmp_path / "a.tif", noise(8, 9), dtype=dtype)
    with pytest.raises(InputError, match="real numbers.*bands=1,2,3.*complex numbers"):
        found(path, (1, 2, 3))


def test_palette_indices_raise_but_black_and_white_are_gray(tmp_path):
    path = write_scene(tmp_path / "a.tif", noise(8, 9, 1))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 0, 0, 255) for index in range(4)})
    for bands in (None, (1, 1, 1)):
        with pytest.raises(InputError, match="contains palette indices.*-expand rgb"):
            found(path, bands)
    bilevel = write_scene(tmp_path / "b.tif", noise(8, 9, 1) % 2, nbits=1)
    assert found(bilevel, (1, 1, 1)).colors == (1, 1, 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_range_depends_on_the_number_of_bits(tmp_path, bits):
    image = noise(8, 9, 1) % 2**bits
    with rasterio.open(write_scene(tmp_path / "a.tif", image, nbits=bits)) as dataset:
        assert integer_range(dataset, 1) == (0, 2**bits - 1)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.uint8, (0, 255)), (np.int8, None), (np.uint16, None)]
)
def test_only_8_bit_bands_have_a_range(tmp_path, dtype, expected):
    with rasterio.open(write_scene(tmp_path / "a.tif", noise(8, 9, 1, dtype, 99))) as dataset:
        assert integer_range(dataset, 1) == expected


def test_images_that_are_not_rgb_raise(tmp_path):
    pixels = Image.fromarray(noise(16, 16))
    pixels.convert("CMYK").save(tmp_path / "cmyk.jpg")
    with pytest.raises(InputError, match="cmyk.jpg must contain RGB colors.*color space CMYK"):
        found(tmp_path / "cmyk.jpg")
    lab = write_scene(tmp_path / "lab.tif", noise(16, 16), photometric="CIELAB")
    with pytest.raises(InputError, match="must contain RGB colors.*CIELAB"):
        found(lab)
    white = write_scene(tmp_path / "white.tif", noise(16, 16, 1), photometric="MINISWHITE")
    with pytest.raises(InputError, match="white is stored as 0.*-scale 0 255 255 0"):
        found(white, (1, 1, 1))
    pixels.save(tmp_path / "ycbcr.jpg")
    assert found(tmp_path / "ycbcr.jpg").colors == (1, 2, 3)
    pixels.convert("LA").save(tmp_path / "gray.png")
    with pytest.raises(InputError, match="2 band.*cannot be identified"):
        found(tmp_path / "gray.png")


def test_bands_of_different_dtypes_raise(tmp_path):
    for name, dtype in (("a", np.uint8), ("b", np.uint16)):
        write_scene(tmp_path / f"{name}.tif", noise(8, 9, 1).astype(dtype))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand>"
        for number, (name, kind) in enumerate(
            (("a", "Byte"), ("b", "UInt16"), ("a", "Byte")), start=1
        )
    )
    (tmp_path / "c.vrt").write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="8">{bands}</VRTDataset>'
    )
    with pytest.raises(InputError, match="same dtype. Received: uint8, uint16 in .*c.vrt"):
        found(tmp_path / "c.vrt")


NAMES = ("red", "green", "blue", "nir", "swir")


def named(path, names=NAMES, numbers=(1, 2, 3, 4, 5), count=5, bands=None):
    network = Bands(names, ((0, 1),) * len(names), numbers, count)
    with rasterio.open(path) as dataset:
        return find_named_bands(path, dataset, network, bands)


def test_bands_are_found_by_their_names_in_any_case(tmp_path):
    path = described(tmp_path, ("NIR", "Red", "green", "extra", "blue", "Swir"))
    bands = named(path)
    assert bands.colors == (2, 3, 5, 1, 6)
    assert "band 2 is red, 3 is green, 5 is blue, 1 is nir, 6 is swir" in bands.notes[0]


def test_two_bands_with_the_name_of_a_network_band_raise(tmp_path):
    path = described(tmp_path, ("nir", "red", "green", "blue", "NIR", "swir"))
    with pytest.raises(InputError, match="several bands with the name nir. Choose .* with `bands`"):
        named(path)
    assert named(path, bands=(2, 3, 4, 5, 6)).colors == (2, 3, 4, 5, 6)
    assert named(path, ("red", "swir"), (1, 5)).colors == (2, 6)  # nir is not needed


@pytest.mark.parametrize(
    ("descriptions", "names", "numbers", "count"),
    [
        ((None,) * 5, NAMES, (1, 2, 3, 4, 5), 5),
        ((None,) * 5, ("nir", "red"), (4, 1), 5),
        (NAMES, ("band 4", "band 1"), (4, 1), 5),
        ((*NAMES[:4], None), (*NAMES[:4], "band 5"), (1, 2, 3, 4, 5), None),
    ],
)
def test_the_use_of_band_numbers_is_reported(tmp_path, descriptions, names, numbers, count):
    bands = named(
        described(tmp_path, descriptions, photometric="MINISBLACK"), names, numbers, count
    )
    assert bands.colors == numbers
    expected = f"have no names; assumption: .* [(]band {numbers[0]} is {names[0]}, "
    assert re.search(expected, *bands.notes)


@pytest.mark.parametrize(
    ("descriptions", "names", "numbers", "count"),
    [
        ((None,) * 6, NAMES, (1, 2, 3, 4, 5), 5),
        ((None,) * 13, NAMES, (1, 2, 3, 4, 5), None),
        ((None,) * 6, ("nir", "red"), (4, 1), 5),
        (NAMES, ("band 1", "band 4"), (1, 4), 7),
        ((*NAMES[:4], "thermal"), NAMES, (1, 2, 3, 4, 5), 5),
    ],
)
def test_band_numbers_are_not_used_for_another_number_of_bands(
    tmp_path, descriptions, names, numbers, count
):
    path = described(tmp_path, descriptions, photometric="MINISBLACK")
    with pytest.raises(InputError, match="does not contain the band.*Choose the bands with"):
        named(path, names, numbers, count)
