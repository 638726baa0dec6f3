"""Decodes image files and mask files, and rejects files that training cannot use."""

import io
import struct

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from tfds_deepglobe.errors import InputError

# Largest accepted image, 16384x16384 pixels. It bounds the memory in place of Pillow's own limit
# against decompression bombs, which large scenes exceed.
MAX_PIXELS = 1 << 28
# Decoder and first bytes of each format, by Pillow's name of the format. `Image.open` would guess
# the format.
_DECODERS = {
    "JPEG": (JpegImagePlugin.JpegImageFile, (b"\xff\xd8",)),
    "PNG": (PngImagePlugin.PngImageFile, (b"\x89PNG",)),
    "TIFF": (TiffImagePlugin.TiffImageFile, (b"II", b"MM")),
    "BMP": (BmpImagePlugin.BmpImageFile, (b"BM",)),
}
# Pillow's errors for a damaged file; they have no common base class. Randomly damaged files raised
# the first three, and Pillow's source shows the others.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_HOW_TO_RGB = (
    "`gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB in.tif out.tif` makes an RGB image of the "
    "first three bands; for more than 8 bits, add `-ot Byte -scale MIN MAX` with the same range "
    "for all images"
)


def decode_image(data: bytes, kind: str) -> Image.Image:
    """Decodes an image of mode RGB, or of mode RGBA without transparent pixels.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "JPEG". Of a TIFF, the first page is decoded.

    Raises:
        InputError: The file is damaged, too large, or has another format or mode.
    """
    remedy = f"; {_HOW_TO_RGB}" if kind == "TIFF" else ""
    image = _decode(data, kind, remedy)
    if image.mode != "RGB" and not _is_opaque(image):
        raise InputError(f"has mode {image.mode}; expected RGB, 3 channels of 8 bits{remedy}")
    return image


def decode_mask(data: bytes, kind: str) -> np.ndarray:
    """Decodes the colors of a mask of mode RGB, palette, gray, or black and white.

    Args:
        data: content of the file.
        kind: Pillow's name of the format, such as "PNG".

    Returns:
        uint8 `(height, width, 3)`, RGB in [0, 255]. Gray pixels have equal channels.

    Raises:
        InputError: The file is damaged, too large, or has another format or mode.
    """
    mask = _decode(data, kind)
    if mask.mode not in ("RGB", "P", "L", "1") and not _is_opaque(mask):
        raise InputError(f"has mode {mask.mode}; expected RGB, gray of 8 bits, or a palette")
    return np.asarray(mask.convert("RGB"))


def encode_png(image: Image.Image) -> bytes:
    """Returns an image as a PNG file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def size_text(size: tuple[int, int]) -> str:
    """Formats a `(width, height)`, such as "512x256"."""
    return f"{size[0]}x{size[1]}"


def _decode(data: bytes, kind: str, remedy: str = "") -> Image.Image:
    """Decodes a file of one format.

    `remedy` is added to the error for a file of this format that Pillow cannot read.
    """
    decoder, first_bytes = _DECODERS[kind]
    if not data.startswith(first_bytes):
        raise InputError(f"is not a {kind} file, in spite of its name")
    try:
        image = decoder(io.BytesIO(data))
    except _PILLOW_ERRORS as error:
        raise InputError(f"is not a readable {kind} file: {error}{remedy}") from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"has {size_text(image.size)} pixels, more than {MAX_PIXELS}")
    # Pillow reads a PNG of 16 bits as 8-bit RGB without an error. Byte 24 is the bit depth.
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
