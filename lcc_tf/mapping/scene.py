"""Reading of image files and GeoTIFFs in parts. Therefore images can have any size."""

import contextlib
import itertools
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.mapping.color_bands import (
    alpha_bands,
    find_color_bands,
    find_named_bands,
    integer_range,
)
from lcc_tf.mapping.geodesy import has_areas, pixel_meters
from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.mapping.scene_reading import SceneReading, joined
from lcc_tf.range_check import RangeCheck
from tfds_deepglobe.decoding import decode_image, require_complete
from tfds_deepglobe.errors import InputError as DatasetError

# The default of GDAL is 5 % of the memory, which is too much on large machines.
CACHE_MEGABYTES = 256
# Maximum height and width of the image from which minima, maxima and percentiles are computed
OVERVIEW_SIDE = 2048  # pixels
PERCENTILES = (2, 98)  # the default of "cumulative count cut" in QGIS
# A broken JPEG or PNG header can claim so many pixels that decoding fills the memory. A header is
# rejected if it claims more than 1032 pixels per byte of the file. This number is the maximum
# compression of deflate in PNG files (https://zlib.net/zlib_tech.html). JPEG compresses less.
PLAIN_FORMATS = ("JPEG", "PNG")
PIXELS_PER_BYTE = 1032
# Maximum number of pixels of a JPEG file that is decoded in memory, 8192x8192. GDAL decodes larger
# files in parts.
MAX_DECODED = 1 << 26
# Float bands contain nodata pixels with values such as -3.4e38, often without a nodata value in the
# header. Measurements are never so large.
LARGEST_VALUE = 1e30
# Number of sampled windows along one side of an image, and their height and width in pixels
SAMPLED_WINDOWS, SAMPLE_SIDE = 4, 128
# A warning is printed if more than this fraction of the pixels has the same extreme value.
UNDECLARED_FRACTION = 0.005
# Files contain rounded pixel sizes. Therefore two pixel sizes are considered equal if their
# relative difference is smaller than this value.
SAME_SIZE = 1e-3


class Scene:
    """Open image file of any size. Its pixels are returned as RGB in [0, 255].

    If the network has `bands`, the pixels are returned as the original values of these bands.

    Scenes are created by `open_scene`.

    Attributes:
        path: path of the file.
        grid: size and georeference of the image after resampling.
        nodata: nodata value of the file; None for a file without a nodata value.
        has_nodata: True if the image can contain nodata pixels.
        notes: sentences for the user about the bands, the mask and the georeference.
        stretch: float64 `(2, 3)`. For each band, the first value is scaled to 0 and the second
            value is scaled to 255. None if the image is not scaled.
    """

    def __init__(
        self,
        path: Path,
        dataset: rasterio.DatasetReader | WarpedVRT,
        bands: Sequence[int],
        scale: str | Sequence[float] | None,
        has_mask: bool,
        alpha: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.notes = list(notes)
        self.grid = Grid.of(dataset)
        self.nodata = dataset.nodata
        self._dataset = dataset
        self._bands = list(bands)
        self._lock = threading.Lock()  # a GDAL data set is not thread-safe
        self._has_mask = has_mask
        self._alpha = alpha
        # NaN and very large values in float bands are nodata pixels.
        is_float = any(dataset.dtypes[i - 1].startswith("float") for i in bands)
        self.has_nodata = has_mask or alpha is not None or is_float
        self.stretch = self._stretch(scale)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Reads a part of the image.

        Args:
            rows: rows to read; start and stop are required.
            columns: columns to read; start and stop are required.

        Returns:
            float32 `(rows, columns, channels)`, RGB in [0, 255] or bands of the network; nodata
            pixels are NaN.

        Raises:
            InputError: the file is truncated or broken.
        """
        image, valid = self._read(window=window_of(rows, columns))
        image = self._stretched(image)
        image[~valid] = np.nan
        return image

    def thumbnail(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads the whole image and downsamples it with nearest-neighbor interpolation.

        Args:
            side: maximum height and width of the result, pixels.

        Returns:
            Two arrays:

            - image, float32 `(height, width, channels)`, RGB in [0, 255] or bands of the network.
            - mask, bool `(height, width)`, False for nodata pixels.
        """
        image, valid = self._overview(side)
        return self._stretched(image), valid

    def range_warning(self, bands: Bands) -> str | None:
        """Compares the dtype and sampled values with the training images of a network.

        Args:
            bands: bands of the network, which are also the bands of the scene.

        Returns:
            A warning for the user; None if the scene is similar to the training images.
        """
        check = RangeCheck(bands)
        starts = (
            np.linspace(0, max(0, side - SAMPLE_SIDE), SAMPLED_WINDOWS, dtype=int)
            for side in self.grid.size
        )
        rows, columns = (
            [slice(start, min(start + SAMPLE_SIDE, side)) for start in sorted({*along.tolist()})]
            for along, side in zip(starts, self.grid.size, strict=True)
        )
        for window in itertools.product(rows, columns):
            values = self.read(*window)
            check.add(values[~np.isnan(values).any(axis=-1)])
        return check.warning(self._dataset.dtypes[self._bands[0] - 1])

    def _overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads a thumbnail, but does not scale the values of the file."""
        factor = min(1, side / max(self.grid.size))
        return self._read(size=tuple(max(1, round(s * factor)) for s in self.grid.size))

    def _read(
        self, *, window: Window | None = None, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads the bands, but does not scale the values of the file.

        Args:
            window: part to read; None for the whole image.
            size: height and width of the downsampled result, pixels; None for no downsampling.

        Returns:
            Two arrays:

            - values `(rows, columns, bands)` with the dtype of the file.
            - mask, bool `(rows, columns)`, False for nodata pixels.
        """
        options = {"window": window, "out_shape": size and (len(self._bands), *size)}
        with self._lock, _readable(self.path):
            image = np.moveaxis(self._dataset.read(self._bands, **options), 0, -1)
            valid = np.ones(image.shape[:2], bool)
            if np.issubdtype(image.dtype, np.floating):
                valid = (np.abs(image) < LARGEST_VALUE).all(axis=-1)  # False for NaN
            if self._has_mask:
                # Like in GDAL, a pixel is nodata only if it is nodata in all bands.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NodataShadowWarning)
                    valid &= self._dataset.read_masks(self._bands, **options).any(axis=0)
            if self._alpha:
                # GDAL ignores this band in `read_masks` if the file has a nodata value.
                valid &= self._dataset.read(self._alpha, window=window, out_shape=size) > 0
        return image, valid

    def _stretched(self, image: np.ndarray) -> np.ndarray:
        """Converts values of the file to float32, and scales the values if `stretch` is set."""
        if self.stretch is not None:
            # float32 is too inexact for 32-bit integers and for large numbers.
            image = image.astype(np.result_type(image.dtype, np.float32))
            low, high = self.stretch.astype(image.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # nodata pixels can have any value
                image = ((image - low) / np.maximum(high - low, 1e-12) * 255).clip(0, 255)
        return np.nan_to_num(image.astype(np.float32))

    def _stretch(self, scale: str | Sequence[float] | None) -> np.ndarray | None:
        """Computes the attribute `stretch`."""
        if scale is None:
            return None
        if not isinstance(scale, str):
            return np.repeat(np.array(scale, float)[:, None], 3, axis=1)
        image, valid = self._overview(OVERVIEW_SIDE)
        if not valid.any():
            if not self._has_valid_pixels():
                return None
            raise InputError(
                f"{self.path} contains too few valid pixels. Therefore `scale={scale}` cannot be "
                "computed. Set `scale` to a range of values, such as 0,3000."
            )
        ends = (0, 100) if scale == "minmax" else PERCENTILES
        values = image[valid].astype(np.float64)
        self.notes += _undeclared_nodata(values)
        return np.percentile(values, ends, axis=0)

    def _has_valid_pixels(self) -> bool:
        """Reads the image in strips until a strip contains a valid pixel."""
        height, width = self.grid.size
        rows = max(1, OVERVIEW_SIDE**2 // width)
        strips = (slice(top, min(top + rows, height)) for top in range(0, height, rows))
        windows = (window_of(strip, slice(0, width)) for strip in strips)
        return any(self._read(window=window)[1].any() for window in windows)


@contextlib.contextmanager
def open_scene(
    path: Path, reading: SceneReading | None = None, bands: Bands | None = None
) -> Iterator[Scene]:
    """Opens an image file in any format that GDAL can read.

    Args:
        path: path of the file.
        reading: bands, value range and pixel size; None for the defaults of `SceneReading`.
        bands: bands of the network; None for a network of RGB images.

    Yields:
        The open scene.

    Raises:
        InputError: one of these reasons:

            - The file is broken or is not an image, or its name is not UTF-8.
            - The header of the file claims more pixels than the file can contain.
            - The bands in `reading.bands` do not exist.
            - `reading.bands` is None, and the bands cannot be identified. These are the bands of
              the network, or the red, green and blue band.
            - `bands` is set, and `reading.scale` is not None.
            - `reading.resample_to` is set, but the file has no coordinate system.
    """
    reading = reading or SceneReading()
    if bands and reading.scale is not None:
        raise InputError(
            "`scale` must not be set, because the network scales its bands as in the training. "
            f"Received: scale={joined(reading.scale)}. Remove `scale`."
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The name of an image must be UTF-8. Received: {os.fsencode(path)!r}. Rename the file "
            "or its folder."
        ) from error
    with rasterio.Env(
        GDAL_CACHEMAX=CACHE_MEGABYTES,
        # These two options are necessary for large progressive JPEG files. They are safe because
        # `_check_pixels` rejects impossible sizes.
        GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC="YES",
        JPEGMEM="4000M",
        GDAL_PAM_ENABLED="YES",
        # GDAL fills damaged parts of a JPEG file with gray. By default, this is only a warning.
        GDAL_ERROR_ON_LIBJPEG_WARNING="YES",
    ):
        with _readable(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(dataset)
            _check_bands(path, dataset)
            _check_pixels(path, dataset)
            if _is_color_jpeg(path, dataset):
                dataset = stack.enter_context(_decoded_jpeg(path, dataset))
            with _readable(path):
                found = (
                    find_named_bands(path, dataset, bands, reading.bands)
                    if bands
                    else find_color_bands(path, dataset, reading.bands)
                )
            flags = [dataset.mask_flag_enums[band - 1] for band in found.colors]
            has_mask = any(not {MaskFlags.all_valid, MaskFlags.alpha} & set(flag) for flag in flags)
            notes = [*found.notes, *_page_notes(dataset), *_georeference_notes(dataset)]
            chosen, mask = found.colors, found.mask
            scale = None if bands else reading.scale or _default_scale(dataset, chosen)
            if reading.resample_to is not None:
                if "?" in str(path):  # see `_resampled`
                    raise InputError(
                        "The path of an image must not contain '?' if `resample_to` is set. "
                        f"Received: {path}. Rename the file or its folder."
                    )
                size = _resampled_size(path, dataset, reading.resample_to)
                alpha = alpha_bands(dataset)
                # During resampling, GDAL uses each transparency band as a mask.
                if marked := sorted(set(chosen) & set(alpha)):
                    raise InputError(
                        "If `resample_to` is set, `bands` must not contain a band that is marked "
                        f"as transparency. Received: band {marked[0]} of {path}, which is marked "
                        "as transparency. Remove the mark, for example with "
                        f"`gdal_translate -colorinterp_{marked[0]} undefined {path} unmarked.tif`."
                    )
                if mask and has_mask:  # GDAL would ignore one of the two masks
                    raise InputError(
                        f"`resample_to` needs one mask. Received: {path} with a transparency band "
                        "and a nodata value or another mask. Remove the nodata value, for example "
                        f"with `gdal_edit.py -unsetnodata {path}`."
                    )
                read = [*chosen, mask] if mask else chosen
                dataset = stack.enter_context(_resampled(dataset.name, path, read, size))
                chosen, mask = range(1, len(chosen) + 1), mask and len(read)
            scene = Scene(path, dataset, chosen, scale, has_mask, mask, notes)
            if bands and (warning := scene.range_warning(bands)):
                scene.notes.append(warning)
            yield scene


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Converts read errors of GDAL to an `InputError`."""
    try:
        yield
    except RasterioError as error:
        # `error.__cause__` is the error of GDAL. It tells why the file cannot be read.
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        if not path.exists():
            reason = "the file does not exist"
        raise InputError(
            f"{path} cannot be read as an image: {reason}. Use a complete GeoTIFF, TIFF, JPEG or "
            "PNG file."
        ) from error


def _check_bands(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Verifies that a file contains bands, and not only other images.

    Raises:
        InputError: the file contains no bands.
    """
    if dataset.count:
        return
    parts = dataset.subdatasets
    received, remedy = "a file without bands", "Use another file"
    if parts:
        received = f"a file that contains {len(parts)} images, such as {parts[0]}"
        remedy = f"Extract one image, for example with `gdal_translate '{parts[0]}' image.tif`"
    raise InputError(f"{path} must contain bands. Received: {received}. {remedy}.")


def _page_notes(dataset: rasterio.DatasetReader) -> list[str]:
    """Describes images in the same file that are not mapped, such as pages of a TIFF file."""
    if not (parts := dataset.subdatasets):
        return []
    return [f"warning: the file contains {len(parts)} images; only the first image is mapped"]


def _check_pixels(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Verifies that a file is complete and contains the pixels that its header claims.

    Raises:
        InputError: the file is too small, or a JPEG or PNG file is damaged.
    """
    # A file inside a zip cannot be checked.
    if dataset.driver not in PLAIN_FORMATS or not path.is_file():
        return
    if dataset.width * dataset.height > PIXELS_PER_BYTE * path.stat().st_size:
        raise InputError(
            f"{path} claims {dataset.width}x{dataset.height} pixels in {path.stat().st_size} "
            f"bytes. A {dataset.driver} file of this size cannot contain so many pixels. The file "
            "is broken or malicious. Use another file."
        )
    try:
        require_complete(path, dataset.driver)
    except DatasetError as error:
        raise InputError(f"{path} {error}. Use a complete file.") from error


def _is_color_jpeg(path: Path, dataset: rasterio.DatasetReader) -> bool:
    """Returns True for a JPEG file in RGB without a mask that can be decoded in memory."""
    space = dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE")
    has_mask = any(flags != [MaskFlags.all_valid] for flags in dataset.mask_flag_enums)
    is_small = dataset.width * dataset.height <= MAX_DECODED
    is_color = dataset.driver == "JPEG" and dataset.count == 3 and space in (None, "YCbCr", "RGB")
    return is_color and not has_mask and is_small and path.is_file()


@contextlib.contextmanager
def _decoded_jpeg(path: Path, dataset: rasterio.DatasetReader) -> Iterator[rasterio.DatasetReader]:
    """Decodes a JPEG file in the same way as training and evaluation.

    GDAL upsamples the colors of most JPEG files in another way: values differ by up to 20 levels.

    Args:
        path: path of the file.
        dataset: the open file, which GDAL would decode.

    Yields:
        An open file in memory with the same georeference.
    """
    height, width = dataset.shape
    strips = [slice(top, min(top + 512, height)) for top in range(0, height, 512)]
    with _readable(path):
        for rows in strips:  # finds damaged data, which Pillow does not report
            dataset.read(1, window=window_of(rows, slice(0, width)))
    try:
        image, _ = decode_image(path.read_bytes(), "JPEG")
    except DatasetError as error:
        raise InputError(f"{path} {error}. Use a complete file.") from error
    options = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "RGB"}
    options |= Grid.of(dataset).georeference
    with MemoryFile() as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(height=height, width=width, **options) as decoded:
                for rows in strips:
                    part = np.asarray(image.crop((0, rows.start, width, rows.stop)))
                    window = window_of(rows, slice(0, width))
                    decoded.write(np.moveaxis(part, -1, 0), window=window)
                decoded.descriptions = dataset.descriptions
                decoded.colorinterp = dataset.colorinterp
            del image  # free the memory, because the scene stays open
            opened = memory.open()
        with opened:
            yield opened


def _default_scale(
    dataset: rasterio.DatasetReader, bands: Sequence[int]
) -> str | tuple[int, int] | None:
    """Returns the scale of an image for which the user has set no scale."""
    ranges = {integer_range(dataset, band) for band in bands}
    if ranges == {(0, 255)}:
        return None
    only_range = ranges.pop() if len(ranges) == 1 else None
    return only_range or "percentile"


def _undeclared_nodata(values: np.ndarray) -> list[str]:
    """Describes an extreme value that many pixels have in all bands, such as -9999.

    Args:
        values: values `(n, 3)` of the valid pixels of an image that is scaled.
    """
    for extreme in (values.min(), values.max()):
        same = (values == extreme).all(axis=1)
        others = values[~same]
        if not same.mean() > UNDECLARED_FRACTION or not len(others):
            continue
        low, high = np.percentile(others, PERCENTILES)
        if np.abs(others - extreme).min() > high - low:
            return [
                f"warning: {same.mean():.1%} of the pixels have the value {extreme:.6g} in all "
                "bands, far from all other values; if they are nodata, set this value with "
                f"`gdal_edit.py -a_nodata {extreme:.6g}`"
            ]
    return []


def _georeference_notes(dataset: rasterio.DatasetReader) -> list[str]:
    """Describes a georeference that is not a coordinate system."""
    if dataset.crs is not None:
        if Grid.of(dataset).crs is None:
            return [
                "warning: the image has a coordinate system, but no geotransform; therefore its "
                "position is unknown, and its maps have no coordinate system"
            ]
        return []
    if count := len(dataset.gcps[0]):
        kind, command = f"{count} ground control points", "gdalwarp"
    elif dataset.rpcs:
        kind, command = "rational polynomial coefficients (RPCs)", "gdalwarp -rpc"
    else:
        return []
    return [
        f"the image has {kind} instead of a coordinate system; its maps also have them; transform "
        f"the image or the maps with `{command}`"
    ]


def _resampled_size(path: Path, dataset: rasterio.DatasetReader, meters: float) -> tuple[int, int]:
    """Returns the height and width of an image after resampling.

    Args:
        path: path of the image file.
        dataset: the open image file.
        meters: pixel size after resampling, meters.

    Raises:
        InputError: the file has no coordinate system.
    """
    if not has_areas(Grid.of(dataset).crs):
        raise InputError(
            "`resample_to` needs an image with a coordinate system, because the coordinate system "
            f"defines the pixel size. Received: {path}, which has no coordinate system. Remove "
            "`resample_to`."
        )
    sides = pixel_meters(Grid.of(dataset))
    factors = [side / meters for side in sides]
    if all(abs(factor - 1) < SAME_SIZE for factor in factors):
        return dataset.shape
    across, down = factors
    return max(1, round(dataset.height * down)), max(1, round(dataset.width * across))


@contextlib.contextmanager
def _resampled(
    name: str, path: Path, bands: Sequence[int], size: tuple[int, int]
) -> Iterator[WarpedVRT]:
    """Opens some bands of a file, and the mask of the file, as a resampled raster.

    The raster contains only the bands in `bands`, for two reasons:

    - GDAL resamples all bands of a raster.
    - GDAL uses each transparency band as a mask.

    Args:
        name: name under which GDAL can open the file.
        path: path of the file, for error messages.
        bands: numbers of the bands.
        size: height and width of the resampled raster, pixels.
    """
    height, width = size
    with contextlib.ExitStack() as stack:
        with _readable(path):
            # This syntax selects bands of a file: https://gdal.org/drivers/raster/vrt.html
            source = f"vrt://{name}?bands={joined(bands)}"
            dataset = stack.enter_context(rasterio.open(source))
        shrinks = height < dataset.height or width < dataset.width
        yield stack.enter_context(
            WarpedVRT(
                dataset,
                crs=dataset.crs,
                transform=dataset.transform
                @ dataset.transform.scale(dataset.width / width, dataset.height / height),
                width=width,
                height=height,
                resampling=Resampling.average if shrinks else Resampling.bilinear,
                # Adds a transparency band if the file has a mask that is not one of its bands.
                add_alpha=MaskFlags.per_dataset in dataset.mask_flag_enums[0]
                and not alpha_bands(dataset),
            )
        )
