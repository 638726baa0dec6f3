import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tfds_deepglobe import decoding
from tfds_deepglobe.decoding import decode_image, decode_mask, encode_png
from tfds_deepglobe.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def saved(image, kind, **options):
    """Returns the content of an image file."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png_16_bit(width, height):
    """Returns a black RGB PNG file with 16 bits per channel, which Pillow cannot write."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 6 * width) * height)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_return_the_same_pixels(kind):
    image = decode_image(saved(NOISE, kind), kind)
    np.testing.assert_array_equal(image, NOISE)
    np.testing.assert_array_equal(decode_image(encode_png(image), "PNG"), NOISE)


MODES = [(mode, kind) for mode in ("RGB", "P", "L", "1") for kind in ("PNG", "TIFF", "BMP")]


@pytest.mark.parametrize(("mode", "kind"), [*MODES, ("RGBA", "PNG"), ("RGBA", "TIFF")])
def test_masks_of_every_mode_and_format_return_the_same_colors(mode, kind):
    colors = {
        "L": [(0, 0, 0), (1, 1, 1), (2, 2, 2)],  # class ids
        "1": [(0, 0, 0), (255, 255, 255)],
    }.get(mode, [(10, 20, 30), (10, 20, 31), (200, 0, 7)])
    indices = np.arange(24 * 32).reshape(24, 32) % len(colors)
    expected = np.array(colors, np.uint8)[indices]
    if mode == "P":
        mask = Image.fromarray(indices.astype(np.uint8), "P")
        mask.putpalette([channel for color in colors for channel in color])
    else:
        mask = Image.fromarray(expected).convert(mode)
    data = saved(mask, kind)
    with Image.open(io.BytesIO(data)) as written:
        assert written.mode == mode
    np.testing.assert_array_equal(decode_mask(data, kind), expected)


JPEG, PNG, TIFF = saved(NOISE, "JPEG"), saved(NOISE, "PNG"), saved(NOISE, "TIFF")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "JPEG", "is not a JPEG file; content and extension do not match"),
        (PNG, "JPEG", "is not a JPEG file; content and extension do not match"),
        (JPEG, "PNG", "is not a PNG file; content and extension do not match"),
        (JPEG[:20], "JPEG", "is not a readable JPEG file"),
        (JPEG[:-400], "JPEG", "is truncated or damaged"),
        (JPEG[:-2], "JPEG", "is truncated or damaged"),  # without the end marker
        (PNG[:-80], "PNG", "is truncated or damaged"),
        (TIFF[:-80], "TIFF", "is (truncated or damaged|not a readable TIFF file)"),
        (png_16_bit(32, 24), "PNG", "has mode RGB of 16 bits; expected 8 bits per channel"),
    ],
)
def test_files_that_cannot_be_decoded_raise(data, kind, message):
    for decode in (decode_image, decode_mask):
        with pytest.raises(InputError, match=message):
            decode(data, kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_png_and_tiff_images_that_are_not_rgb_raise(mode, kind):
    with pytest.raises(InputError, match="16" if mode == "I;16" else f"has mode {mode}") as error:
        decode_image(saved(Image.new(mode, (32, 24)), kind), kind)
    assert ("gdal_translate" in str(error.value)) == (kind == "TIFF")


def test_jpeg_images_that_are_not_rgb_raise():
    for mode in ("L", "CMYK"):
        with pytest.raises(InputError, match=f"has mode {mode}; expected RGB, 3 channels"):
            decode_image(saved(Image.new(mode, (32, 24)), "JPEG"), "JPEG")


def test_transparent_masks_raise():
    with pytest.raises(InputError, match="has mode RGBA; expected RGB, gray of 8 bits, or a pal"):
        decode_mask(saved(Image.new("RGBA", (32, 24)), "PNG"), "PNG")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_opaque_alpha_channel_is_ignored(kind):
    data = saved(Image.new("RGBA", (32, 24), (1, 2, 3, 255)), kind)
    assert decode_image(data, kind).getpixel((0, 0))[:3] == (1, 2, 3)
    assert decode_mask(data, kind)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("limit", "accepted"), [(32 * 24, True), (32 * 24 - 1, False)])
def test_pixel_limit_replaces_the_limit_of_pillow(monkeypatch, limit, accepted):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
    if accepted:
        assert decode_image(PNG, "PNG").size == (32, 24)
        return
    with pytest.raises(InputError, match=f"has 32x24 pixels; at most {limit}"):
        decode_image(PNG, "PNG")


def test_bugs_are_not_reported_as_damaged_files(monkeypatch):
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    with pytest.raises(TypeError):
        decode_image(PNG, "PNG")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "__init__", None)
    with pytest.raises(TypeError):
        decode_image(PNG, "PNG")


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("bands", [3, 4])
def test_error_for_16_bit_tiff_shows_the_conversion_command(tmp_path, bands):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": 32, "height": 24, "count": bands, "dtype": "uint16"}
    with rasterio.open(tmp_path / "7.tif", "w", **profile) as file:
        file.write(np.zeros((bands, 24, 32), np.uint16))
    with pytest.raises(InputError) as error:
        decode_image((tmp_path / "7.tif").read_bytes(), "TIFF")
    assert "gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    "options",
    [
        {"interleave": "band"},
        {"interleave": "band", "compress": "deflate", "tiled": True},
        {"compress": "lzw", "predictor": 2, "endianness": "big"},
        {"compress": "zstd", "bigtiff": "yes"},
    ],
    ids=str,
)
def test_scenes_of_gis_programs_are_decoded(tmp_path, options):
    rasterio = pytest.importorskip("rasterio")
    bands = np.random.default_rng(0).integers(0, 256, (3, 150, 200), np.uint8)
    profile = {"driver": "GTiff", "width": 200, "height": 150, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "7.tif", "w", **profile, **options) as file:
        file.write(bands)
    image = decode_image((tmp_path / "7.tif").read_bytes(), "TIFF")
    np.testing.assert_array_equal(image, bands.transpose(1, 2, 0))
