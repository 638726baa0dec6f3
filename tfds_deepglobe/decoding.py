"""Decoding of image files and mask files. Files that training cannot use raise an error.

Pixels are returned as they are stored. Orientation tags are not applied. If Pillow
would change the values of a file, an error is raised, for example for more than 8 bits per channel.
"""

import contextlib
import io
import mmap
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
)

from tfds_deepglobe.errors import InputError

# Number of pixels of the largest accepted image, 16384x16384. This limit protects the memory. It
# replaces Pillow's limit for decompression bombs, except for TIFF files.
MAX_PIXELS = 1 << 28
# Pillow warns about TIFF files with more than half of its limit, and about wrong tags.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Key: Pillow's name of a format. Value: decoder, and the possible first bytes of a file.
# `Image.open` is not used, because it would guess the format.
_DECODERS = {
    "JPEG": (JpegImagePlugin.JpegImageFile, (b"\xff\xd8",)),
    "PNG": (PngImagePlugin.PngImageFile, (b"\x89PNG\r\n\x1a\n",)),
    "TIFF": (TiffImagePlugin.TiffImageFile, (b"II", b"MM")),
    "BMP": (BmpImagePlugin.BmpImageFile, (b"BM",)),
}
# Errors that Pillow raises for a damaged file. They have no common base class. Tests with randomly
# damaged files raised the first four errors. The last two errors are in Pillow's source code.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error)
_TO_RGB = (
    "`gdal_translate -b 1 -b 2 -b 3 {0} in.{1} out.{1}` converts the first three bands to an RGB "
    "image, if their order is red, green, blue; use `-b 1 -b 1 -b 1` for gray and `-expand rgb` "
    "for a palette; if the bands have more than 8 bits, add `-ot Byte -scale MIN MAX` with the "
    "same MIN and MAX for all images"
)
# Key: Pillow's name of a format. Value: end of an error message. The end contains the supported
# mode and a command that converts other images.
_EXPECTED_IMAGE = {
    kind: f"expected RGB, 3 channels of 8 bits{remedy}"
    for kind, remedy in {
        "JPEG": "; `magick in.jpg -colorspace sRGB -type TrueColor out.jpg` converts the image",
        "PNG": f"; {_TO_RGB.format('-of PNG', 'png')}",
        "TIFF": f"; {_TO_RGB.format('-co PHOTOMETRIC=RGB', 'tif')}",
        "BMP": "",
    }.items()
}
_EXPECTED_MASK = (
    "expected RGB, gray of 8 bits, or a palette, without transparent pixels; if all values of the "
    "first band are class ids in [0, 255], `gdal_translate -b 1 -ot Byte -of PNG MASK out.png` "
    "converts the mask"
)
# Pillow's names of the compressions of TIFF files that each version of Pillow can decode
_TIFF_COMPRESSIONS = (
    *("raw", "packbits", "jpeg", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"),
    *("group3", "group4", "tiff_ccitt"),
)
_OTHER_COMPRESSION = "`gdal_translate -co COMPRESS=DEFLATE in.tif out.tif` changes the compression"
# Markers of the types of JPEG files that TensorFlow can decode: Huffman coding, 8 bits per channel
_JPEG_TYPES = (0xC0, 0xC1, 0xC2)
# Markers between C0 and CF that do not mark a type of JPEG file
_NO_JPEG_TYPES = (0xC4, 0xC8, 0xCC)
# A marker of a JPEG segment. In compressed pixels, the byte FF is followed by 0, by a restart
# marker (D0 to D7), or by another FF.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Names of the chunks of a PNG file. Names that begin with a lower-case letter are optional.
_PNG_ORDER = re.compile(
    rb"IHDR(?:[a-z]...)*(?:PLTE(?:[a-z]...)*)?(?:IDAT)+(?:[a-z]...)*IEND", re.DOTALL
)
# Names and possible lengths of the first chunks
_PNG_SIZES = {(b"IHDR", 13), *((b"PLTE", 3 * num_colors) for num_colors in range(1, 257))}
_PNG_STEP = 1 << 18  # bytes to decompress at once, which fit into the processor's cache
_BLOCK_ROWS = 16  # rows of a mask to convert at once
_ORIENTATION = 274  # number of the orientation tag in TIFF and EXIF
# If a TIFF image has an orientation tag, Pillow rotates or flips the image. Key: orientation.
# Value: operation that restores the stored pixels.
_UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def decode_image(data: bytes, kind: str, *, pixels: bool = True) -> tuple[Image.Image, int]:
    """Decodes an image in RGB, or in RGBA without transparent pixels.

    If a TIFF file has several pages, only the first page is decoded.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "JPEG".
        pixels: if False, the pixels of a JPEG image are decoded when they are first used. Two
            threads must not use this image at the same time. Verifying the file then takes about
            half of the time.

    Returns:
        Two values:

        - image with the pixels as they are stored.
        - orientation in [1, 8], which is not applied; 1 if the file has no orientation tag.

    Raises:
        InputError: The file is damaged, too large, not of the format `kind`, or not an RGB image.
    """
    image, orientation, _ = _decode(data, kind, _EXPECTED_IMAGE[kind], pixels=pixels)
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"has mode {image.mode}; {_EXPECTED_IMAGE[kind]}")
    return image, orientation


def decode_mask(
    data: bytes, kind: str, palette: Collection[tuple[int, int, int]] = ()
) -> tuple[np.ndarray, int]:
    """Decodes the colors of a mask in RGB, gray, black and white, or with a palette.

    A gray mask with 1, 2 or 4 bits per pixel contains class ids or shades of gray. For example, in
    a mask with 2 bits per pixel, the value 1 is the class id 1 or the shade 85. The correct meaning
    is the meaning that fits `palette`.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "PNG".
        palette: colors of the classes, RGB in [0, 255].

    Returns:
        Two values:

        - colors as they are stored, uint8 `(height, width, 3)`, RGB in [0, 255]. For a gray pixel,
          the values of R, G and B are equal.
        - orientation in [1, 8], which is not applied; 1 if the file has no orientation tag.

    Raises:
        InputError: The file is damaged, too large, not of the format `kind`, or has a color mode
            that is not supported.
    """
    mask, orientation, bits = _decode(data, kind, _EXPECTED_MASK)
    if mask.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise InputError(f"has mode {mask.mode}; {_EXPECTED_MASK}")
    if mask.info.get("compression") in ("jpeg", "tiff_jpeg"):
        raise InputError("has JPEG compression, which changes colors; save the original mask again")
    if mask.mode == "P" and mask.palette:
        num_colors = len(mask.palette.palette) // len(mask.palette.mode)
        if (index := int(np.max(mask))) >= num_colors:  # Pillow would return black
            raise InputError(
                f"is damaged: it contains the color number {index}, but its palette has only "
                f"{num_colors} colors, numbered from 0"
            )
    colors = _colors(mask if mask.mode == "RGB" else mask.convert("RGB"))
    if bits < 8:
        step = 255 // (2**bits - 1)  # difference between two shades
        grays = {red for red, green, blue in palette if red == green == blue}
        shades = set(range(step, 255, step))
        used = set(np.unique(colors).tolist()) - {0}
        is_binary = 255 in grays and used <= {255}
        if used and used <= grays and {shade // step for shade in used} <= grays:
            raise InputError(
                f"has {bits} bit{'s' * (bits > 1)} per pixel, so that the value "
                f"{min(used) // step} can be the class id {min(used) // step} or the gray value "
                f"{min(used)}, which are both in the class table; save the mask with 8 bits"
            )
        if grays & set(range(1, 2**bits)) or (shades and not grays & shades and not is_binary):
            colors = colors // step
    return colors, orientation


def require_complete(path: Path, kind: str) -> None:
    """Verifies the end and the checksums of a JPEG or PNG file without decoding its pixels.

    Args:
        path: path of the file.
        kind: format of the file, "JPEG" or "PNG".

    Raises:
        InputError: The file is truncated or damaged.
        OSError: The file cannot be read.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        check_complete(data, kind)


def check_complete(data: bytes | mmap.mmap, kind: str) -> None:
    """Verifies the end and the checksums of the content of a JPEG or PNG file.

    Args:
        data: content of the file.
        kind: format of the file, "JPEG" or "PNG".

    Raises:
        InputError: The file is truncated or damaged.
    """
    (_check_jpeg if kind == "JPEG" else _check_png)(data)


def read_orientation(path: Path) -> int:
    """Reads the orientation of an image file without decoding its pixels.

    Args:
        path: path of the file.

    Returns:
        Orientation in [1, 8]; 1 if the file has no orientation tag or cannot be read.
    """
    with contextlib.suppress(*_PILLOW_ERRORS), path.open("rb") as file:
        start = file.read(16)
        if start.startswith(_DECODERS["TIFF"][1]):
            return _tiff_orientation(file)
        file.seek(0)
        for decoder, first_bytes in _DECODERS.values():
            if start.startswith(first_bytes):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = decoder(file)
                if image.format == "PNG" and "exif" not in image.info:
                    # The tag may come after the pixels. Pillow would decode the pixels first.
                    image.info["exif"] = _exif_chunk(file.fileno())
                return _orientation(image)
    return 1


def orientation_of(tiff: bytes) -> int:
    """Returns the orientation of a TIFF file, in [1, 8]; 1 if the file has no orientation tag.

    Args:
        tiff: content of the file.
    """
    return _tiff_orientation(io.BytesIO(tiff))


def encode_png(image: Image.Image, level: int = 6) -> bytes:
    """Returns an image as the content of a PNG file.

    Args:
        image: image to encode.
        level: level of the compression, from 1 (fastest) to 9 (smallest).
    """
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=level)
    return data.getvalue()


def size_text(size: tuple[int, int]) -> str:
    """Formats a size `(width, height)` as text, such as "512x256"."""
    return f"{size[0]}x{size[1]}"


def _colors(image: Image.Image) -> np.ndarray:
    """Returns the pixels of an RGB image, uint8 `(height, width, 3)`.

    `np.asarray` of the whole image would need twice the memory, and more time.
    """
    colors = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BLOCK_ROWS):
        rows = (0, top, image.width, min(top + _BLOCK_ROWS, image.height))
        colors[top : rows[3]] = np.asarray(image.crop(rows))
    return colors


def _decode(
    data: bytes, kind: str, expected: str, *, pixels: bool = True
) -> tuple[Image.Image, int, int]:
    """Decodes a file of the format `kind`.

    Args:
        data: content of the file.
        kind: Pillow's name of the format.
        expected: end of the error message for a file of another color mode.
        pixels: see `decode_image`.

    Returns:
        Three values:

        - image with the pixels as they are stored.
        - orientation in [1, 8].
        - bits per pixel of a gray image; 8 for other images.
    """
    decoder, first_bytes = _DECODERS[kind]
    if not data:
        raise InputError("is empty")
    if not data.startswith(first_bytes):
        raise InputError(f"is not a {kind} file; content and extension do not match")
    try:
        image = decoder(io.BytesIO(data))
    except _PILLOW_ERRORS as error:
        reason = f"{error}; {expected}"
        if kind == "TIFF" and str(error).isdigit():  # number of an unknown compression
            reason = f"the compression number {error} is not supported; {_OTHER_COMPRESSION}"
        raise InputError(f"is not a readable {kind} file: {reason}") from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"has {size_text(image.size)} pixels; at most {MAX_PIXELS} are allowed")
    # Pillow checks its limit for TIFF files again when it decodes the pixels.
    if (
        kind == "TIFF"
        and Image.MAX_IMAGE_PIXELS
        and (image.width * image.height > (most := 2 * Image.MAX_IMAGE_PIXELS))
    ):
        raise InputError(
            f"has {size_text(image.size)} pixels; at most {most} are allowed in a TIFF file; split "
            "it into smaller images"
        )
    bits = 8
    if kind == "JPEG":
        _check_jpeg(data)
    elif kind == "PNG":
        _check_png(data)
        if data[24] > 8:
            raise InputError(f"has {data[24]} bits per channel; {expected}")
        if image.mode in ("1", "L"):
            bits = data[24]
    elif kind == "TIFF":
        if unsupported := _unsupported_tiff(image):
            raise InputError(f"has {unsupported}; {expected}")
        if image.mode in ("1", "L") and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION):
            bits = image.tag_v2.get(BITSPERSAMPLE, (1,))[0]
        _check_size_of_raw_pixels(image)
        _check_deflate(data, image)
    # When Pillow decodes a TIFF file, it rotates or flips the pixels and deletes the orientation
    # tag. Therefore, the tag is read first.
    orientation = _orientation(image) if kind == "TIFF" else 1
    try:
        if kind == "JPEG" and not pixels:
            # Decode only one pixel per block of 8x8 pixels. Pillow then reads the whole file, and
            # finds the same damage.
            reduced = decoder(io.BytesIO(data))
            reduced.draft(None, (1, 1))
            reduced.load()
        else:
            image.load()
        is_transparent = image.has_transparency_data and (
            image.convert("RGBA").getextrema()[3] != (255, 255)
        )
    except _PILLOW_ERRORS as error:
        other = ""
        if kind == "TIFF" and image.info["compression"] not in _TIFF_COMPRESSIONS:
            other = (
                f", or its compression ({image.info['compression']}) is not supported; "
                f"{_OTHER_COMPRESSION}"
            )
        raise InputError(f"is truncated or damaged: {error}{other}") from error
    if kind == "PNG":
        _check_png_pixels(data)
    if kind != "TIFF":
        orientation = _orientation(image)
    elif orientation != 1:
        image = image.transpose(_UNTURN[orientation])
    if is_transparent:
        raise InputError(
            f"has transparent pixels; {expected}; if the last band of images is not transparency, "
            "use all bands, such as `bands=1,2,3,4`"
        )
    return image, orientation, bits


def _check_jpeg(data: bytes | mmap.mmap) -> None:
    """Verifies the type of a JPEG file, and that no scan and no end marker is missing.

    Pillow decodes a file without an end marker, but TensorFlow cannot. If a scan is missing,
    Pillow and TensorFlow return different pixels.
    """
    start, missing, progressive = 2, {(0, 0)}, False
    while marker := _JPEG_MARKER.search(data, start):
        code, start = data[marker.end() - 1], marker.end()
        if code == 0xD9:
            break
        segment = data[start : start + int.from_bytes(data[start : start + 2])]
        if code in _JPEG_TYPES:
            # A progressive file has several scans. Each scan contains some bits of some frequencies
            # of some components. Bit 0 comes last. Here, no bit 0 has been found.
            missing = {(component, i) for component in segment[8::3] for i in range(64)}
            progressive = code == 0xC2
        elif code == 0xDA and len(segment) >= 6:
            *components, first, last, bits = segment[3:-3:2] + segment[-3:]
            if not progressive:
                first, last, bits = 0, 63, 0
            if bits & 15 == 0:
                missing -= {(c, i) for c in components for i in range(first, last + 1)}
        elif 0xC0 <= code <= 0xCF and code not in _NO_JPEG_TYPES:
            raise InputError(
                "is a lossless or arithmetic JPEG file; only baseline and progressive JPEG files "
                "are supported"
            )
        start += len(segment)
    if not marker or missing:
        raise InputError("is truncated or damaged: the end of the JPEG data is missing")


def _check_png(data: bytes | mmap.mmap) -> None:
    """Verifies the checksums, the order and the header of the chunks of a PNG file.

    Pillow ignores the checksums of pixels, and accepts some orders and headers that TensorFlow
    refuses.
    """
    start, names = 8, [b""]
    while names[-1] != b"IEND":
        name, end = data[start + 4 : start + 8], start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            raise InputError("is truncated or damaged: the end of the PNG data is missing")
        if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise InputError(f"is truncated or damaged: wrong checksum at byte {end}")
        if (name, end - start - 8) not in _PNG_SIZES and name in (b"IHDR", b"PLTE"):
            raise InputError(f"is damaged: the PNG chunk at byte {start} has a wrong length")
        names.append(name)
        start = end + 4
    if not _PNG_ORDER.fullmatch(b"".join(names)):
        raise InputError("is damaged: a PNG chunk is unknown, missing or at a wrong place")
    color, compression, row_filter, interlaced = data[25:29]
    if compression or row_filter or interlaced > 1 or (color == 3 and b"PLTE" not in names):
        raise InputError("is damaged: the PNG header has wrong values")


def _check_png_pixels(data: bytes) -> None:
    """Verifies that a PNG file contains all rows, because Pillow fills missing rows with black."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    # Each pass of an interlaced image: first column, first row, column step and row step
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    passes = [*adam7, (0, 1, 1, 2)] if interlaced else [(0, 0, 1, 1)]
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    decoder, size, start = zlib.decompressobj(), 0, 8
    with contextlib.suppress(zlib.error):
        while start < len(data):
            end = start + 8 + int.from_bytes(data[start : start + 4])
            place = start + 8 if data[start + 4 : start + 8] == b"IDAT" else end
            # `decompress` copies the rest of its input. Therefore, the input is also split.
            for part in range(place, end, _PNG_STEP):
                rest = data[part : min(part + _PNG_STEP, end)]
                # The limit protects the memory. Bytes after the end of the pixels are ignored.
                while rest and size <= expected and not decoder.eof:
                    size += len(decoder.decompress(rest, _PNG_STEP))
                    rest = decoder.unconsumed_tail
            start = end + 4
        size += len(decoder.flush())
    if size != expected:
        found = "more than" if size > expected else f"{size} of"
        raise InputError(f"is truncated or damaged: it contains {found} {expected} bytes of pixels")
    if not decoder.eof:
        raise InputError("is truncated or damaged: the checksum of the pixels is wrong")


def _unsupported_tiff(image: TiffImagePlugin.TiffImageFile) -> str:
    """Describes a property of a TIFF file that Pillow does not preserve; `""` if none is found."""
    tags = image.tag_v2
    bits = max(tags.get(BITSPERSAMPLE, (1,)))
    samples = tags.get(SAMPLESPERPIXEL, len(image.getbands()))
    if bits > 8:
        return f"{bits} bits per channel"
    if set(tags.get(SAMPLEFORMAT, (1,))) != {1}:
        return "signed values"
    if samples != len(image.getbands()):
        return f"{samples} bands"
    if bits > 1 and not tags.get(PHOTOMETRIC_INTERPRETATION):
        return "inverted gray values, in which 0 is white"
    # Pillow only uses the high byte of the 16 bits of a channel.
    if any(color % 256 and color % 257 for color in tags.get(COLORMAP, ())):
        return "a palette with more or less than 8 significant bits per channel"
    if any(0 in place for place in _strips(image)):
        return "parts without pixels (a sparse file)"
    return ""


def _check_size_of_raw_pixels(image: TiffImagePlugin.TiffImageFile) -> None:
    """Verifies that a TIFF file without compression contains all pixels.

    If the compression tag is damaged, Pillow reads compressed pixels as raw pixels.
    """
    size = sum(count for _, count in _strips(image))
    bits = max(image.tag_v2.get(BITSPERSAMPLE, (1,))) * len(image.getbands())
    expected = (image.width * image.height * bits + 7) // 8
    if image.info["compression"] == "raw" and 0 < size < expected:
        raise InputError(
            f"is truncated or damaged: it contains {size} of {expected} bytes of pixels"
        )


def _check_deflate(data: bytes, image: TiffImagePlugin.TiffImageFile) -> None:
    """Verifies the checksums of a TIFF file with deflate compression; Pillow ignores them."""
    if image.info["compression"] not in ("tiff_adobe_deflate", "tiff_deflate"):
        return
    tile = image.tag_v2.get(TILEWIDTH, 0) * image.tag_v2.get(TILELENGTH, 0)
    limit = min(max(image.width * image.height, tile), MAX_PIXELS) * len(image.getbands()) + 1
    for offset, count in _strips(image):
        decoder = zlib.decompressobj()
        with contextlib.suppress(zlib.error):
            decoder.decompress(memoryview(data)[offset : offset + count], limit)
        if not decoder.eof:
            raise InputError(
                f"is truncated or damaged: wrong checksum of the data at byte {offset}"
            )


def _strips(image: TiffImagePlugin.TiffImageFile) -> Iterator[tuple[int, int]]:
    """Yields the position and the number of bytes of each strip or tile of a TIFF file."""
    for places, counts in ((STRIPOFFSETS, STRIPBYTECOUNTS), (TILEOFFSETS, TILEBYTECOUNTS)):
        yield from zip(image.tag_v2.get(places, ()), image.tag_v2.get(counts, ()), strict=False)


def _orientation(image: Image.Image) -> int:
    """Returns the orientation of an open image, in [1, 8]."""
    with contextlib.suppress(*_PILLOW_ERRORS):  # if the EXIF data is damaged, return 1
        orientation = image.getexif().get(_ORIENTATION)
        return int(orientation) if orientation in _UNTURN else 1
    return 1


def _tiff_orientation(file: BinaryIO) -> int:
    """Returns the orientation of an open TIFF file, in [1, 8]; 1 for a damaged file.

    `TiffImageFile` is not used, because it prints an error if the file has many bands.
    """
    with contextlib.suppress(*_PILLOW_ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(0)
        header = file.read(16)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header[: 16 if header[2] == 43 else 8])
        file.seek(tags.next)
        tags.load(file)
        orientation = tags.get(_ORIENTATION)
        return int(orientation) if orientation in _UNTURN else 1
    return 1


def _exif_chunk(file: int) -> bytes:
    """Returns the EXIF data of an open PNG file; `b""` if there is no EXIF data."""
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        at = data.rfind(b"eXIf")
        return data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at])] if at >= 0 else b""
