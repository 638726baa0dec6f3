import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tfds_deepglobe import decoding
from tfds_deepglobe.decoding import decode_image, decode_mask, encode_png, read_orientation
from tfds_deepglobe.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def saved(image, kind, **options):
    """Returns the content of an image file."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def chunk(kind, data):
    """Returns a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png_of(gray, bits):
    """Returns a gray PNG file with 1, 2, 4 or 8 bits per pixel. A row must fill whole bytes."""
    places = gray.reshape(len(gray), -1, 8 // bits).astype(np.uint8)
    packed = sum(places[..., i] << (8 - bits * (i + 1)) for i in range(8 // bits)).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", gray.shape[1], len(gray), bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_16_bit(width, height):
    """Returns a black RGB PNG file with 16 bits per channel, which Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 6 * width) * height)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_return_the_same_pixels(kind):
    image, orientation = decode_image(saved(NOISE, kind), kind)
    assert orientation == 1
    np.testing.assert_array_equal(image, NOISE)
    np.testing.assert_array_equal(decode_image(encode_png(image), "PNG")[0], NOISE)


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
    np.testing.assert_array_equal(decode_mask(data, kind)[0], expected)


JPEG, PNG, TIFF = saved(NOISE, "JPEG"), saved(NOISE, "PNG"), saved(NOISE, "TIFF")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "JPEG", "is empty"),
        (PNG, "JPEG", "is not a JPEG file; content and extension do not match"),
        (JPEG, "PNG", "is not a PNG file; content and extension do not match"),
        (JPEG[:20], "JPEG", "is not a readable JPEG file"),
        (JPEG[:-400], "JPEG", "is truncated or damaged"),
        (JPEG[:-2], "JPEG", "is truncated or damaged"),  # without the end marker
        (JPEG[:-9] + bytes(9), "JPEG", "is truncated or damaged: the end of the JPEG data is mi"),
        (JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "JPEG", "is a lossless or arithmetic JPEG file"),
        (PNG[:-80], "PNG", "is truncated or damaged"),
        (TIFF[:-80], "TIFF", "is (truncated or damaged|not a readable TIFF file)"),
        (png_16_bit(32, 24), "PNG", "has 16 bits per channel; expected RGB"),
    ],
)
def test_files_that_cannot_be_decoded_raise(data, kind, message):
    for decode in (decode_image, decode_mask):
        with pytest.raises(InputError, match=message):
            decode(data, kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("mode", "found"),
    [("L", "mode L"), ("P", "mode P"), ("RGBA", "transparent pixels"), ("I;16", "16 bits")],
)
def test_png_and_tiff_images_that_are_not_rgb_raise(mode, kind, found):
    with pytest.raises(InputError, match=f"has {found}.*expected RGB.*`gdal_translate"):
        decode_image(saved(Image.new(mode, (32, 24)), kind), kind)


def test_jpeg_images_that_are_not_rgb_raise():
    for mode in ("L", "CMYK"):
        with pytest.raises(InputError, match=f"has mode {mode}; expected RGB, 3 channels"):
            decode_image(saved(Image.new(mode, (32, 24)), "JPEG"), "JPEG")


def test_transparent_masks_raise():
    with pytest.raises(InputError, match="has transparent pixels; expected RGB, gray of 8 bits"):
        decode_mask(saved(Image.new("RGBA", (32, 24)), "PNG"), "PNG")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_opaque_alpha_channel_is_ignored(kind):
    data = saved(Image.new("RGBA", (32, 24), (1, 2, 3, 255)), kind)
    assert decode_image(data, kind)[0].getpixel((0, 0))[:3] == (1, 2, 3)
    assert decode_mask(data, kind)[0][0, 0].tolist() == [1, 2, 3]


def test_transparent_palette_entries_raise_only_if_pixels_use_them():
    mask = Image.fromarray(np.array([[1, 2]], np.uint8), "P")
    mask.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6])
    colors, _ = decode_mask(saved(mask, "PNG", transparency=0), "PNG")
    assert colors.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    with pytest.raises(InputError, match="has transparent pixels"):
        decode_mask(saved(mask, "PNG", transparency=1), "PNG")


@pytest.mark.parametrize(("limit", "accepted"), [(32 * 24, True), (32 * 24 - 1, False)])
def test_pixel_limit_replaces_the_limit_of_pillow(monkeypatch, limit, accepted):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
    if accepted:
        assert decode_image(PNG, "PNG")[0].size == (32, 24)
        return
    with pytest.raises(InputError, match=f"has 32x24 pixels; at most {limit}"):
        decode_image(PNG, "PNG")


def test_tiff_files_above_the_limit_of_pillow_raise(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # half of the limit; Pillow would warn
    assert decode_image(TIFF, "TIFF")[0].size == (32, 24)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 383)
    with pytest.raises(InputError, match="has 32x24 pixels; at most 766 are allowed in a TIFF"):
        decode_image(TIFF, "TIFF")


def test_bugs_are_not_reported_as_damaged_files(monkeypatch):
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    with pytest.raises(TypeError):
        decode_image(PNG, "PNG")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "__init__", None)
    with pytest.raises(TypeError):
        decode_image(PNG, "PNG")


def test_black_and_white_of_few_bits_are_the_shades_of_the_palette():
    black_and_white = [(0, 0, 0), (255, 255, 255)]
    gray = np.array([[0, 3] * 8])
    assert decode_mask(png_of(gray, 2), "PNG", black_and_white)[0][0, :2, 0].tolist() == [0, 255]
    gray[0, 5] = 2
    assert decode_mask(png_of(gray, 2), "PNG", black_and_white)[0][0, :2, 0].tolist() == [0, 3]


def test_color_numbers_outside_the_palette_raise():
    header = struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", b"\0\xff\xff\xff\xff\0")
    valid, invalid = (
        start + chunk(b"IDAT", zlib.compress(b"\0" + pixels)) + chunk(b"IEND", b"")
        for pixels in (b"\0\1\0", b"\0\1\2")
    )
    assert decode_mask(valid, "PNG")[0][0, 1].tolist() == [255, 255, 0]
    with pytest.raises(InputError, match="the color number 2, but its palette has only 2 colors"):
        decode_mask(invalid, "PNG")


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(("compression", "name"), [("webp", r"\(webp\)"), ("lerc", "number 34887")])
def test_unsupported_compressions_of_tiff_files_are_named(tmp_path, compression, name):
    pixels = np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32)
    data = tiff_of(tmp_path / "7.tif", pixels, compress=compression, photometric="RGB")
    with pytest.raises(InputError, match=f"compression {name}.*COMPRESS=DEFLATE"):
        decode_image(data, "TIFF")


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
    image, _ = decode_image((tmp_path / "7.tif").read_bytes(), "TIFF")
    np.testing.assert_array_equal(image, bands.transpose(1, 2, 0))


def tiff_of(path, bands, **options):
    """Writes bands `(count, height, width)` with GDAL and returns the content of the file."""
    rasterio = pytest.importorskip("rasterio")
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count}
    with rasterio.open(path, "w", dtype=bands.dtype, **profile, **options) as file:
        if not options.get("sparse_ok"):
            file.write(bands)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    ("dtype", "count", "options", "message"),
    [
        ("uint16", 3, {"photometric": "rgb"}, "has 16 bits per channel"),
        ("uint16", 3, {"photometric": "rgb", "interleave": "band"}, "has 16 bits per channel"),
        ("uint8", 4, {"photometric": "rgb", "alpha": "unspecified"}, "has 4 bands"),
        ("uint8", 4, {"photometric": "rgb", "interleave": "band"}, "has 4 bands|not a readable"),
        ("int8", 1, {}, "has signed values"),
        ("uint8", 1, {"photometric": "miniswhite"}, "has inverted gray values"),
        ("uint8", 3, {"photometric": "rgb", "sparse_ok": True}, "has parts without pixels"),
        (
            "uint8",
            3,
            {"photometric": "ycbcr", "compress": "jpeg"},
            "has JPEG compression, which ch",
        ),
    ],
)
def test_tiff_masks_whose_values_pillow_would_change_raise(
    tmp_path, dtype, count, options, message
):
    bands = np.arange(count * 64 * 64).reshape(count, 64, 64).astype(dtype)
    data = tiff_of(tmp_path / "7.tif", bands, **options)
    with pytest.raises(InputError, match=message):
        decode_mask(data, "TIFF")
    if count >= 3 and options.get("compress") != "jpeg":
        with pytest.raises(InputError, match=f"({message}).*expected RGB, 3 channels of 8"):
            decode_image(data, "TIFF")


def test_tiff_palettes_with_8_bit_entries_raise():
    """Pillow reads only the high byte of each palette entry. All colors would be black."""
    mask = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "P")
    mask.putpalette(range(18))
    data = saved(mask, "TIFF")
    colors = struct.pack("<6H", *(value << 8 for value in range(0, 18, 3)))
    assert colors in data
    with pytest.raises(InputError, match="has a palette with more or less than 8 significant bits"):
        decode_mask(data.replace(colors, struct.pack("<6H", *range(0, 18, 3))), "TIFF")


SHADES = ((0, 0, 0), (85, 85, 85), (255, 255, 255))


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("bits", "palette", "expected"),
    [
        (1, [(0, 0, 0), (1, 1, 1)], [0, 1]),
        (1, [(0, 0, 0), (255, 255, 255)], [0, 255]),
        (2, [(i, i, i) for i in range(4)], [0, 1, 2, 3]),
        (2, [(i, i, i) for i in (0, 1, 255)], [0, 1, 2, 3]),
        (2, SHADES, [0, 85, 170, 255]),
        (2, [(0, 255, 0), (0, 0, 0), (255, 255, 255)], [0, 1, 2, 3]),
        (4, [(i, i, i) for i in range(9)], list(range(16))),
    ],
)
def test_gray_masks_of_few_bits_are_class_ids_unless_the_palette_has_their_shades(
    tmp_path, kind, bits, palette, expected
):
    ids = np.arange(32, dtype=np.uint8).reshape(2, 16) % (1 << bits)
    if kind == "TIFF":
        data = tiff_of(tmp_path / "7.tif", ids[None], nbits=bits)
    else:
        data = png_of(ids, bits)
    colors, _ = decode_mask(data, kind, palette)
    np.testing.assert_array_equal(colors, np.array(expected)[ids][..., None].repeat(3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_returned_as_stored_and_the_orientation_beside_them(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    files = {
        f"{compression}.tif": (saved(NOISE, "TIFF", compression=compression, exif=exif), "TIFF")
        for compression in ("raw", "tiff_lzw", "jpeg")
    }
    files["a.jpg"] = saved(NOISE, "JPEG", exif=exif), "JPEG"
    files["a.png"] = saved(NOISE, "PNG", exif=exif), "PNG"
    # exiftool writes the tag after the pixels.
    files["b.png"] = PNG[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + PNG[-12:], "PNG"
    plain = {
        "jpeg.tif": np.asarray(Image.open(io.BytesIO(saved(NOISE, "TIFF", compression="jpeg")))),
        "a.jpg": np.asarray(Image.open(io.BytesIO(JPEG))),
    }
    for name, (data, kind) in files.items():
        image, read = decode_image(data, kind)
        assert read == orientation, name
        np.testing.assert_array_equal(image, plain.get(name, NOISE), name)
        (tmp_path / name).write_bytes(data)
        assert read_orientation(tmp_path / name) == orientation, name
        if kind != "JPEG" and name != "jpeg.tif":
            colors, read = decode_mask(data, kind)
            assert read == orientation, name
            np.testing.assert_array_equal(colors, NOISE, name)


def test_orientation_of_files_without_a_valid_tag_is_1(tmp_path):
    exif = Image.Exif()
    exif[274] = 9
    (tmp_path / "a.jpg").write_bytes(saved(NOISE, "JPEG", exif=exif))
    (tmp_path / "b.jpg").write_bytes(saved(NOISE, "JPEG", exif=b"Exif\0\0MM\0*"))
    (tmp_path / "c.txt").write_text("c")
    for name in ("a.jpg", "b.jpg", "c.txt", "missing.tif"):
        assert read_orientation(tmp_path / name) == 1
        if name.endswith("jpg"):
            assert decode_image((tmp_path / name).read_bytes(), "JPEG")[1] == 1


MASK = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24) // 9 % 5


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_adobe_deflate"}], ids=str)
def test_masks_with_a_changed_byte_raise(options):
    """PNG and deflate have checksums, which Pillow does not verify."""
    kind = "TIFF" if options else "PNG"
    data = saved(MASK, kind, **options)
    protected = range(len(data))
    if options:  # the tags of a TIFF file have no checksum
        with Image.open(io.BytesIO(data)) as image:
            (start,), (count,) = image.tag_v2[273], image.tag_v2[279]
        protected = range(start, start + count)
    for i in protected:
        for bits in (1, 0xFF):
            damaged = bytearray(data)
            damaged[i] ^= bits
            with pytest.raises(InputError):
                decode_mask(bytes(damaged), kind)


def test_truncated_and_cleared_png_masks_raise():
    data = saved(MASK, "PNG")
    for end in range(len(data)):
        for damaged in (data[:end], data[:end] + bytes(len(data) - end)):
            with pytest.raises(InputError):
                decode_mask(damaged, "PNG")


def test_png_files_with_an_unknown_critical_chunk_raise():
    data = PNG[:33] + chunk(b"CgBI", b"1234") + PNG[33:]
    with pytest.raises(InputError, match="is damaged: a PNG chunk is unknown, missing or at"):
        decode_image(data, "PNG")
    assert decode_image(PNG[:33] + chunk(b"npTc", b"1234") + PNG[33:], "PNG")


@pytest.mark.parametrize(
    ("place", "value"),
    [(11, 15), (25, 3), (26, 1), (27, 1), (28, 2)],  # length, color type, methods, interlacing
)
def test_png_files_with_a_wrong_header_raise(place, value):
    header = bytearray(PNG[8:29])
    if place == 11:
        header += b"12"
    header[place - 8] = value
    data = PNG[:8] + header + struct.pack(">I", zlib.crc32(header[4:])) + PNG[33:]
    with pytest.raises(InputError, match=r"is damaged: |is not a readable PNG file"):
        decode_image(data, "PNG")


def test_png_files_with_chunks_at_wrong_places_raise():
    mask = Image.fromarray(np.array([[1, 2]], np.uint8), "P")
    mask.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6])
    data = saved(mask, "PNG")
    start, pixels, end = data.index(b"PLTE") - 4, data.index(b"IDAT") - 4, len(data) - 12
    palette = data[start:pixels]
    for wrong in (
        data[:start] + data[pixels:],  # without a palette
        data[:start] + data[pixels:end] + palette + data[end:],  # palette after the pixels
        data[:pixels] + palette + data[pixels:],  # two palettes
        data[:start] + chunk(b"PLTE", b"") + data[pixels:],
        data[:start] + chunk(b"PLTE", bytes(4)) + data[pixels:],
    ):
        with pytest.raises(InputError, match=r"is damaged: .*(PNG chunk|PNG header)"):
            decode_mask(wrong, "PNG")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (bytes(1 << 24), "contains more than 2328 bytes of pixels"),  # decompression bomb
        (None, "the checksum of the pixels is wrong"),
        (b"", "contains 0 of 2328 bytes"),
    ],
)
def test_png_files_with_wrong_pixels_raise(rows, message):
    content = zlib.compress(bytes(24 * 97) if rows is None else rows)
    content = content[:-1] if rows is None else content
    header = struct.pack(">IIBBBBB", 32, 24, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=f"is truncated or damaged.*({message}|image file is tr)"):
        decode_image(b"\x89PNG\r\n\x1a\n" + body, "PNG")


@pytest.mark.parametrize(
    ("name", "content"),
    [(b"iCCP", b"name\0"), (b"tRNS", bytes(9000))],  # after the pixels; before the pixels
)
def test_png_files_with_damaged_optional_chunks_raise(name, content):
    mask = Image.fromarray(np.array([[1, 2]], np.uint8), "P")
    mask.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6])
    data = saved(mask, "PNG")
    place = len(data) - 12 if name == b"iCCP" else data.index(b"IDAT") - 4
    with pytest.raises(InputError, match="is truncated or damaged"):
        decode_mask(data[:place] + chunk(name, content) + data[place:], "PNG")


def test_compressed_tiff_files_without_the_compression_tag_raise():
    data = bytearray(saved(NOISE // 2, "TIFF", compression="tiff_adobe_deflate"))
    tags = int.from_bytes(data[4:8], "little") + 2
    (tag,) = (t for t in range(tags, len(data) - 12, 12) if data[t : t + 2] == b"\x03\x01")
    data[tag + 8] = 1  # no compression
    with pytest.raises(InputError, match=r"it contains \d+ of 2304 bytes of pixels"):
        decode_image(bytes(data), "TIFF")


def test_progressive_jpeg_files_without_the_last_scan_raise():
    data = saved(NOISE, "JPEG", progressive=True)
    assert decode_image(data, "JPEG")
    start = data.rindex(b"\xff\xda")
    with pytest.raises(InputError, match="is truncated or damaged: the end of the JPEG data"):
        decode_image(data[:start] + b"\xff\xd9", "JPEG")


@pytest.mark.parametrize("pixels", [True, False])
def test_jpeg_files_without_a_quantization_table_raise(pixels):
    """The file has an end marker and all scans. Only decoding it finds the damage."""
    with pytest.raises(InputError, match="is truncated or damaged: broken data stream"):
        decode_image(JPEG.replace(b"\xff\xdb", b"\xff\xed"), "JPEG", pixels=pixels)


def test_pixels_of_a_verified_jpeg_file_are_decoded_when_they_are_used():
    image, _ = decode_image(JPEG, "JPEG", pixels=False)
    np.testing.assert_array_equal(image, decode_image(JPEG, "JPEG")[0])


def test_bytes_after_the_end_of_a_jpeg_file_are_ignored():
    np.testing.assert_array_equal(
        decode_image(JPEG + bytes(99), "JPEG")[0], decode_image(JPEG, "JPEG")[0]
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_files_without_the_last_rows_raise(bits):
    gray = np.arange(16 * 24).reshape(24, 16) % (1 << bits)
    data = png_of(gray, bits)
    assert decode_mask(data, "PNG")[0].shape == (24, 16, 3)
    header = struct.pack(">IIBBBBB", 16, 25, bits, 0, 0, 0, 0)  # one row more
    data = data[:8] + chunk(b"IHDR", header) + data[33:]
    with pytest.raises(InputError, match="it contains .* of .* bytes of pixels"):
        decode_mask(data, "PNG")


def test_png_files_with_one_large_chunk_of_pixels_are_verified():
    noise = np.random.default_rng(0).integers(0, 256, (700, 500), np.uint8)
    data = png_of(noise, 8)
    np.testing.assert_array_equal(decode_mask(data, "PNG")[0][..., 1], noise)
    header = struct.pack(">IIBBBBB", 500, 701, 8, 0, 0, 0, 0)  # one row more
    with pytest.raises(InputError, match="it contains 350700 of 351201 bytes of pixels"):
        decode_mask(data[:8] + chunk(b"IHDR", header) + data[33:], "PNG")


def test_bytes_after_the_pixels_of_a_png_file_are_ignored():
    """The pixels have more bytes than one step of the decompression."""
    data = png_of(np.zeros((700, 500)), 8)
    pixels = zlib.compress(bytes(501 * 700)) + bytes(4)
    data = data[:33] + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert not decode_mask(data, "PNG")[0].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 2), (33, 18)])
def test_interlaced_png_files_are_complete(size):
    """Writes the rows of the seven passes without row filters."""
    width, height = size
    pixels = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    rows = b""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        part = pixels[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part if part.shape[1])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    complete, short = (
        start + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
        for content in (rows, rows[:-1])
    )
    np.testing.assert_array_equal(decode_mask(complete, "PNG")[0][..., 0], pixels)
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_mask(short, "PNG")
