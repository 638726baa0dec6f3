"""Scenes, class maps and classes for tests."""

import warnings

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.mapping.map_raster import new_raster
from tfds_deepglobe.classes import ClassTable

HALF_METER = from_origin(500000, 5200000, 0.5, 0.5)

CLASSES = ClassTable(("land", "water", "ice"), ((0, 255, 0), (0, 0, 255), (255, 255, 255)))


def write_scene(path, bands, **options):
    """Writes an image `(height, width, bands)` as a GeoTIFF in UTM coordinates."""
    defaults = {"crs": "EPSG:32633", "transform": HALF_METER, "driver": "GTiff"}
    options = defaults | {"dtype": bands.dtype} | options
    colors, mask = options.pop("colorinterp", None), options.pop("mask", None)
    height, width, count = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", height=height, width=width, count=count, **options
        ) as dataset:
            if colors:
                dataset.colorinterp = colors
            dataset.write(np.moveaxis(bands, -1, 0))
            if mask is not None:
                dataset.write_mask(mask)
    return path


def noise(height, width, bands=3, dtype=np.uint8, high=256):
    """Returns an image `(height, width, bands)` with random values in [1, high)."""
    return np.random.default_rng(0).integers(1, high, (height, width, bands)).astype(dtype)


def write_class_map(
    path, ids, *, crs="EPSG:32633", transform=HALF_METER, classes=CLASSES, nodata=None
):
    """Writes class ids `(height, width)` as a class map, in parts of 300 rows."""
    grid = Grid(*ids.shape, crs and rasterio.CRS.from_string(crs), transform)
    with new_raster(path, grid, classes=classes, nodata=nodata) as dataset:
        for top in range(0, ids.shape[0], 300):
            rows = slice(top, min(top + 300, ids.shape[0]))
            dataset.write(ids[rows], 1, window=window_of(rows, slice(0, ids.shape[1])))
