"""Decoding of image files and mask files. Files that training cannot use raise an error."""

import io
import struct

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from tfds_deepglobe.errors import InputError

# Number of pixels of the largest accepted image, 16384x16384. This limit protects the memory. It
# replaces Pillow's limit for decompression bombs, which is too small for large scenes.
MAX_PIXELS = 1 << 28
# Dictionary from Pillow's name of a format to the decoder and the possible first bytes of a file.
# `Image.open` is not used, because it would guess the format.
_DECODERS = {
    "JPEG": (JpegImagePlugin.JpegImageFile, (b"\xff\xd8",)),
    "PNG": (PngImagePlugin.PngImageFile, (b"\x89PNG",)),
    "TIFF": (TiffImagePlugin.TiffImageFile, (b"II", b"MM")),
    "BMP": (BmpImagePlugin.BmpImageFile, (b"BM",)),
}
# Errors that Pillow raises for a damaged file. They have no common base class. Tests with randomly
# damaged files raised the first three errors. The last two errors are in Pillow's source code.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_HOW_TO_RGB = (
    "`gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB in.tif out.tif` converts the first three "
    "bands to an RGB image; if the bands have more than 8 bits, add `-ot Byte -scale MIN MAX` with "
    "the same MIN and MAX for all images"
)


def decode_image(data: bytes, kind: str) -> Image.Image:
    """Decodes an image in RGB, or in RGBA without transparent pixels.

    If a TIFF file has several pages, only the first page is decoded.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "JPEG".

    Raises:
        InputError: The file is damaged, too large, not of the format `kind`, or not an RGB image.
    """
    remedy = f"; {_HOW_TO_RGB}" if kind == "TIFF" else ""
    image = _decode(data, kind, remedy)
    if image.mode != "RGB" and not _is_opaque(image):
        raise InputError(f"has mode {image.mode}; expected RGB, 3 channels of 8 bits{remedy}")
    return image


def decode_mask(data: bytes, kind: str) -> np.ndarray:
    """Decodes the colors of a mask in RGB, gray, black and white, or with a palette.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "PNG".

    Returns:
        Colors, uint8 `(height, width, 3)`, RGB in [0, 255]. For a gray pixel, the values of R, G
        and B are equal.

    Raises:
        InputError: The file is damaged, too large, not of the format `kind`, or has a color mode
            that is not supported.
    """
    mask = _decode(data, kind)
    if mask.mode not in ("RGB", "P", "L", "1") and not _is_opaque(mask):
        raise InputError(f"has mode {mask.mode}; expected RGB, gray of 8 bits, or a palette")
    return np.asarray(mask.convert("RGB"))


def encode_png(image: Image.Image) -> bytes:
    """Returns an image as the content of a PNG file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def size_text(size: tuple[int, int]) -> str:
    """Formats a size `(width, height)` as text, such as "512x256"."""
    return f"{size[0]}x{size[1]}"


def _decode(data: bytes, kind: str, remedy: str = "") -> Image.Image:
    """Decodes a file of the format `kind`.

    The text `remedy` is appended to the error message if Pillow cannot read the file.
    """
    decoder, first_bytes = _DECODERS[kind]
    if not data.startswith(first_bytes):
        raise InputError(f"is not a {kind} file; content and extension do not match")
    try:
        image = decoder(io.BytesIO(data))
    except _PILLOW_ERRORS as error:
        raise InputError(f"is not a readable {kind} file: {error}{remedy}") from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"has {size_text(image.size)} pixels; at most {MAX_PIXELS} are allowed")
    # Check the bit depth, which is byte 24 of a PNG file, because Pillow converts PNG files with 16
    # bits per channel to 8 bits without an error.
    if kind == "PNG" and data[24] > 8:
        raise InputError(f"has mode {image.mode} of {data[24]} bits; expected 8 bits per channel")
    try:
        image.load()
    except _PILLOW_ERRORS as error:
        raise InputError(f"is truncated or damaged: {error}") from error
    return image


def _is_opaque(image: Image.Image) -> bool:
    """Returns True if an image is RGBA without transparent pixels."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255)
