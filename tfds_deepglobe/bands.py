"""Images with any number of bands, such as red, green, blue and near infrared.

RGB images with 8 bits per channel do not need this module: `decoding` decodes them with Pillow. All
other images are read with GDAL or NumPy. Their values are not changed.
"""

import contextlib
import dataclasses
import io
import re
import tokenize
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfds_deepglobe.decoding import MAX_PIXELS, check_complete, orientation_of, size_text
from tfds_deepglobe.errors import InputError, UnsupportedBandsError, listed
from tfds_deepglobe.transparency import alpha_bands, masked_fraction

if TYPE_CHECKING:
    import rasterio
    from rasterio.enums import ColorInterp

# Supported dtypes of pixels. TFRecords, TensorFlow's image operations and GDAL support all of them.
DTYPES = ("uint8", "uint16", "int16", "float32")
MAX_BANDS = 1000
# Measured values are smaller. Larger values mark nodata pixels, often in files that do not define a
# nodata value.
LARGEST_VALUE = 1e30
# Key: Pillow's name of a format. Value: GDAL's name of the format.
_DRIVERS = {"TIFF": "GTiff", "PNG": "PNG", "JPEG": "JPEG", "BMP": "BMP"}
# Errors that NumPy raises for a damaged file. They were found with randomly damaged files. A file
# that claims to be very large raises a MemoryError.
_NUMPY_ERRORS = (
    *(ValueError, EOFError, OSError, SyntaxError, TypeError, KeyError),
    *(tokenize.TokenError, RecursionError, MemoryError, OverflowError),
)
_COLORS = ("red", "green", "blue")
# Words in the descriptions of bands that are not red, green or blue
_OTHER_BANDS = re.compile("nir|swir|infra|edge|thermal")
_GDAL_HINT = "`gdal_translate -ot Float32 in.tif out.tif` converts the dtype"
_NUMPY_HINT = "`array.astype(np.float32)` converts the dtype"
# For the statistics of the values: largest and smallest number of pixels per image, and number of
# pixels of all images
_MAX_SAMPLES, _MIN_SAMPLES, _ALL_SAMPLES = 4096, 256, 1 << 22


@dataclasses.dataclass(frozen=True)
class Bands:
    """Bands of the images of an archive.

    Attributes:
        numbers: numbers of the used bands in the image files, counted from 1.
        names: one name per used band, such as "red" or "B08".
        count: number of bands in each image file.
        dtype: dtype of the pixels, one of `DTYPES`.
        described: names of the used bands in the files of the first image, in the order of
            `numbers`. With one file per band, they are in the order of the files. If another image
            has other names, or the same names in another order, this is a fault.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    count: int
    dtype: str
    described: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = listed(self.names, 13)
        used = "" if len(self.numbers) == self.count else f"{len(self.numbers)} of "
        return f"{used}{self.count} band{'s' * (self.count != 1)} of {self.dtype} ({names})"


@dataclasses.dataclass(frozen=True)
class Raster:
    """Pixels of an image with any number of bands.

    Attributes:
        values: values of the file, `(height, width, bands)`. The value of nodata pixels is NaN for
            float32, and the smallest number of the dtype for all other dtypes.
        valid: bool `(height, width)`; False for nodata pixels.
        has_value: bool `(height, width, bands)`; False for nodata values.
        orientation: orientation in [1, 8], which is not applied; 1 without an orientation tag.
    """

    values: np.ndarray
    valid: np.ndarray
    has_value: np.ndarray
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.values.shape[1], self.values.shape[0]


def parse_bands(text: str) -> tuple[tuple[int, ...], dict[int, str]]:
    """Parses a selection of bands.

    Args:
        text: numbers of bands, counted from 1, with optional names.

    Returns:
        The numbers of the bands, and a dictionary. Key: number of a band. Value: name of the band.
        Bands without a name are not in the dictionary.

    Raises:
        InputError: The text is not valid.

    Example:
        >>> parse_bands("4=red,3=green,2=blue,8")
        ((4, 3, 2, 8), {4: 'red', 3: 'green', 2: 'blue'})
    """
    numbers, names = [], {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,4})\s*(?:=\s*(\S.*?)\s*)?", part)
        if not found or int(found[1]) < 1 or int(found[1]) in numbers:
            raise InputError(
                "`bands` must be different numbers of bands, counted from 1, with optional names. "
                f"Examples: 4,3,2,8 and 4=red,3=green,2=blue,8=nir. Received: bands={text}."
            )
        numbers.append(int(found[1]))
        if found[2]:
            names[numbers[-1]] = found[2]
    _check_unique([*names.values()])
    return tuple(numbers), names


def band_names(dataset: "rasterio.DatasetReader") -> tuple[str, ...]:
    """Returns one name per band: its description, its color, or its number, such as "band 4"."""
    bands = zip(dataset.indexes, dataset.descriptions, dataset.colorinterp, strict=True)
    return tuple(
        (description or "").strip() or (kind.name if kind.name in _COLORS else f"band {number}")
        for number, description, kind in bands
    )


def find_bands(
    contents: Sequence[bytes], kind: str, *, text: str | None, part_names: Sequence[str] = ()
) -> Bands | None:
    """Finds the bands of an image.

    Args:
        contents: contents of the files of the image: one file, or one file per band.
        kind: Pillow's name of the format, or "NPY".
        text: bands to use, see `parse_bands`; None for all bands except transparency.
        part_names: names of the bands, if there is one file per band.

    Returns:
        The bands. None if `text` is None and the image has 8-bit colors or a palette. Decode such
        an image with `decoding.decode_image`, which raises an error for CMYK and palettes.

    Raises:
        UnsupportedBandsError: The image has too many bands, an unsupported dtype, or several bands
            in a file of one band.
        InputError: The image is damaged, or does not have the bands in `text`.
    """
    names, dtypes, alpha = [], set(), set()
    for data in contents:
        with _opened(data, kind) as image:
            if text is None and not part_names and image.is_color:
                return None
            if image.has_palette:
                raise InputError(
                    "contains palette indices instead of values; `gdal_translate -expand rgb in.tif"
                    " out.tif` converts the indices to colors"
                )
            alpha |= {len(names) + band + 1 for band in image.alpha}
            names += image.names
            dtypes |= set(image.dtypes)
    found = names
    if part_names:
        if len(names) != len(part_names):
            raise UnsupportedBandsError(
                "has several bands in one of the files; expected one band per file"
            )
        names = list(part_names)
    if len(dtypes) > 1:
        raise UnsupportedBandsError(
            f"has bands of the dtypes {', '.join(sorted(dtypes))}; expected one dtype; {_GDAL_HINT}"
        )
    if not dtypes <= set(DTYPES):
        raise UnsupportedBandsError(
            f"has the dtype {', '.join(dtypes)}; expected one of {', '.join(DTYPES)}; "
            f"{_NUMPY_HINT if kind == 'NPY' else _GDAL_HINT}"
        )
    numbers: Sequence[int] = [n for n in range(1, len(names) + 1) if n not in alpha]
    given: dict[int, str] = {}
    if text is not None:
        numbers, given = parse_bands(text)
        if max(numbers) > len(names):
            raise InputError(f"has {len(names)} band(s), but `bands` contains {max(numbers)}")
    if len(numbers) > MAX_BANDS:
        raise UnsupportedBandsError(f"has {len(numbers)} bands; at most {MAX_BANDS} are supported")
    used = [given.get(number, names[number - 1]) for number in numbers]
    if len({*map(_key, used)}) < len(used):  # equal descriptions cannot identify bands
        used = [given.get(number, f"band {number}") for number in numbers]
    _check_unique(used)
    order = sorted(numbers) if len(contents) > 1 else numbers
    described = tuple(found[number - 1] for number in order)
    return Bands(tuple(numbers), tuple(used), len(names), dtypes.pop(), described)


def read_raster(
    contents: Sequence[bytes], kind: str, bands: Bands, named: Collection[int] = ()
) -> Raster:
    """Reads the pixels of an image.

    A pixel is nodata if all its values are nodata. A pixel is also nodata if one of its values is
    not a finite number, or has an absolute value of `LARGEST_VALUE` or more.

    Args:
        contents: contents of the files of the image: one file, or one file per band.
        kind: Pillow's name of the format, or "NPY".
        bands: bands to read.
        named: numbers of the bands that the user named. In the files, these bands may have other
            descriptions.

    Raises:
        InputError: The image is damaged or too large, or its bands are different from `bands`.
    """
    wanted = [number - 1 for number in bands.numbers]
    values, valid, count, dtypes, orientation = [], [], 0, set(), 1
    names: dict[int, str] = {}
    for data in contents:
        with _opened(data, kind) as image:
            if image.pages:
                raise InputError(
                    f"has {image.pages} pages of the same size, but only the first page would be "
                    "used; if the pages are bands, join them: `gdalbuildvrt -separate bands.vrt "
                    "GTIFF_DIR:1:in.tif GTIFF_DIR:2:in.tif && gdal_translate bands.vrt out.tif`; "
                    "if not, delete the other pages: `gdal_translate in.tif out.tif`"
                )
            here = [number - count for number in wanted if 0 <= number - count < image.count]
            count += image.count
            dtypes |= set(image.dtypes)
            if here and dtypes <= {bands.dtype} and count <= bands.count:
                names |= {count - image.count + band + 1: image.names[band] for band in here}
                part, part_valid = image.read(here)
                values.append(part)
                valid.append(part_valid)
        orientation = orientation_of(data) if kind == "TIFF" else orientation
    if (count, dtypes) != (bands.count, {bands.dtype}):
        raise InputError(
            f"has {count} band(s) of {', '.join(sorted(dtypes))}, but the first image has "
            f"{bands.count} band(s) of {bands.dtype}; all images must have the same bands"
        )
    _check_names(names, bands, named, one_file=len(contents) == 1)
    sizes = {size_text(part.shape[1::-1]) for part in values}
    if len(sizes) > 1:
        raise InputError(
            f"has bands of different sizes ({', '.join(sorted(sizes))} pixels); resample the bands "
            "to one size, for example with `gdalwarp -tr METERS METERS in.tif out.tif`"
        )
    # With one file per band, the values are in the order of the files. Sort the values like
    # `bands.numbers`.
    order = np.argsort(np.argsort(wanted)) if len(contents) > 1 else slice(None)
    pixels = np.concatenate(values, axis=-1)[..., order]
    has_value = np.concatenate(valid, axis=-1)[..., order]
    is_valid = has_value.any(axis=-1)
    if bands.dtype == "float32":
        with np.errstate(invalid="ignore"):
            is_valid &= (np.abs(pixels) < LARGEST_VALUE).all(axis=-1)  # False for NaN
        pixels[~is_valid] = np.nan
    else:
        # The network scales this value to 0. Nodata pixels of a map are also 0.
        pixels[~is_valid] = np.iinfo(bands.dtype).min
    return Raster(pixels, is_valid, has_value & is_valid[..., None], orientation)


def _check_names(
    names: Mapping[int, str], bands: Bands, named: Collection[int], *, one_file: bool
) -> None:
    """Verifies that an image has the same bands as the first image, in the same order.

    A band without a description is never a fault. If the user named a band, another description
    is usually not a fault either. An exception is the description of another band of the first
    image.

    Args:
        names: key: number of a used band. Value: name of the band in the image.
        bands: bands of the first image.
        named: numbers of the bands that the user named.
        one_file: False for one file per band.

    Raises:
        InputError: A name is different.
    """
    order = bands.numbers if one_file else sorted(bands.numbers)
    first_names = [*map(_key, bands.described)]
    for number, first in zip(order, first_names, strict=False):  # `described` can be empty
        name, unnamed = _key(names[number]), f"band {number if one_file else 1}"
        is_other = number not in named and unnamed not in (first, name)
        is_moved = name in first_names and name != unnamed
        if name != first and (is_other or is_moved):
            raise InputError(
                f"has the bands {listed([names[n] for n in order], 13)}, but the first image has "
                f"the bands {listed(bands.described, 13)}; save all images with the same bands in "
                "the same order; if only the descriptions differ, name the bands, such as "
                "`bands=1=red,2=nir`"
            )


def _check_unique(names: Sequence[str]) -> None:
    """Raises an InputError if two names of bands are equal. The letter case is ignored."""
    keys = [*map(_key, names)]
    if repeated := [name for name in names if keys.count(_key(name)) > 1]:
        raise InputError(
            "The bands must have different names; upper and lower case are equal. Received: "
            f"{listed(repeated)}. Choose other names in `bands`, such as `bands=1=red,2=nir`."
        )


def _key(name: str) -> str:
    """Returns the name of a band without outer spaces and in lower case, for comparisons."""
    return name.strip().casefold()


def sampled_values(raster: Raster, num_images: int) -> np.ndarray:
    """Returns values of evenly distributed pixels, and the extreme values of each band.

    Args:
        raster: an image.
        num_images: number of sampled images. If there are many images, fewer pixels of each image
            are returned.

    Returns:
        float32 `(n + 2, bands)`. The first two rows are the minimum and the maximum of each band.
        Nodata values are NaN. If all pixels are nodata, the array has no rows.
    """
    has_value = raster.has_value[raster.valid]
    if not len(has_value):
        return np.zeros((0, has_value.shape[1]), np.float32)
    values = np.where(has_value, raster.values[raster.valid], np.float32(np.nan))
    count = int(np.clip(_ALL_SAMPLES // num_images, _MIN_SAMPLES, _MAX_SAMPLES))
    count = min(count, len(values))
    places = np.linspace(0, len(values) - 1, count).round().astype(np.int64)
    ends = np.fmin.reduce(values), np.fmax.reduce(values)
    return np.stack([*ends, *values[places]]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Image:
    """An open file with one or more bands.

    Attributes:
        names: one name per band.
        dtypes: one dtype per band.
        is_color: True for 8-bit colors (see `_is_rgb_or_rgba`), and for a palette.
        has_palette: True if the values are indices of a palette.
        alpha: bands that mask transparent pixels, counted from 0.
        source: the pixels, or the open file.
        pages: number of pages of the same size, such as in a stack; 0 for a file without pages.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    is_color: bool
    has_palette: bool
    alpha: tuple[int, ...]
    source: "np.ndarray | rasterio.DatasetReader"
    pages: int = 0

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.names)

    def read(self, bands: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Reads some bands, counted from 0.

        Returns:
            Values, and a mask that is True for valid values. Both are `(height, width, bands)`.
        """
        if isinstance(self.source, np.ndarray):
            values = np.array(self.source[..., list(bands)])
            return values, np.ones(values.shape, bool)
        numbers = [band + 1 for band in bands]
        values = np.moveaxis(self.source.read(numbers), 0, -1)
        valid = np.ones(values.shape, bool)
        # If a band is marked as transparency, GDAL uses it as a mask, even if it contains near
        # infrared. Therefore, do not read the masks of such a file.
        if not any("alpha" in {flag.name for flag in f} for f in self.source.mask_flag_enums):
            valid = np.moveaxis(self.source.read_masks(numbers), 0, -1) > 0
        for band in set(self.alpha) - set(bands):
            valid &= self.source.read(band + 1)[..., None] > 0
        return values, valid


@contextlib.contextmanager
def _opened(data: bytes, kind: str) -> Iterator[_Image]:
    """Opens the content of an image file, and converts errors of GDAL and NumPy."""
    if not data:
        raise InputError("is empty")
    if kind == "NPY":
        yield _array_image(data)
        return
    try:
        import rasterio
        from rasterio.enums import ColorInterp
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError as error:
        raise InputError(
            "has other bands than RGB with 8 bits; to read such images, run: pip install "
            "'lcc_tf[maps]'"
        ) from error
    if kind in ("JPEG", "PNG"):
        check_complete(data, kind)
    memory = rasterio.MemoryFile(data)
    try:
        with (
            warnings.catch_warnings(),
            # By default, GDAL fills damaged parts of a JPEG file with gray.
            rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING="YES"),
            memory,
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(driver=_DRIVERS[kind]) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise InputError(
                        f"has {size_text((file.width, file.height))} pixels; at most {MAX_PIXELS} "
                        "are allowed"
                    )
                kinds, names = file.colorinterp, band_names(file)
                has_palette = ColorInterp.palette in kinds
                is_color = has_palette or (
                    set(file.dtypes) == {"uint8"} and _is_rgb_or_rgba(kinds, names)
                )
                alpha = tuple(
                    band - 1
                    for band in alpha_bands(file)
                    if masked_fraction(file, band) is not None
                )
                pages = _count_pages(file)
                yield _Image(names, file.dtypes, is_color, has_palette, alpha, file, pages)
    except RasterioError as error:
        # `error.__cause__` is the error of GDAL, which contains the reason.
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        # The name of the file in memory says nothing to the user.
        reason = re.sub(rf"\S*{Path(memory.name).stem}\S*\s*", "", reason)
        raise InputError(f"is not a complete {kind} file: {reason}") from error


def _count_pages(file: "rasterio.DatasetReader") -> int:
    """Returns the number of pages of a file; 0 if the second page has another size."""
    import rasterio

    if not file.subdatasets:
        return 0
    with rasterio.open(file.subdatasets[1]) as second:  # it can be a thumbnail
        return len(file.subdatasets) if second.shape == file.shape else 0


def _is_rgb_or_rgba(kinds: "Sequence[ColorInterp]", names: Sequence[str]) -> bool:
    """Returns True for images in RGB, RGBA, gray with transparency, or CMYK.

    Three bands count as RGB, unless a name contains another color, or infrared. A CMYK image has a
    band with the color interpretation "cyan".
    """
    colors = [kind.name for kind in kinds]
    if len(names) == 3:
        return not any(
            _OTHER_BANDS.search(name.lower())
            or ({*re.findall("[a-z]+", name.lower())} & {*_COLORS}) - {color}
            for name, color in zip(names, _COLORS, strict=True)
        )
    return (colors[-1] == "alpha" and len(colors) in (2, 4)) or "cyan" in colors


def _array_image(data: bytes) -> _Image:
    """Opens the content of a `.npy` file.

    The shape is `(height, width)`, `(height, width, bands)` or `(bands, height, width)`. In an
    array with three axes, the first or the last axis contains the bands: the shorter axis.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except _NUMPY_ERRORS as error:
        raise InputError(f"is not a complete NumPy file: {error}") from error
    if not isinstance(array, np.ndarray):  # the content of a `.npz` file
        raise UnsupportedBandsError("is not a NumPy file with one array")
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and shape[0] < shape[2]:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or 0 in shape or (len(shape) == 3 and shape[0] == shape[2]):
        raise UnsupportedBandsError(
            f"has the shape {shape}; expected (height, width), (height, width, bands) or (bands, "
            "height, width), with fewer bands than rows and columns"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(f"has the shape {shape}; at most {MAX_PIXELS} pixels are allowed")
    names = tuple(f"band {number}" for number in range(1, array.shape[2] + 1))
    return _Image(names, (array.dtype.name,) * len(names), False, False, (), array)
