"""A class map as polygons."""

import warnings
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.features import shapes, sieve

from lcc_tf.atomic_files import flush, unfinished_name
from lcc_tf.geodesy import polygon_hectares
from tfds_deepglobe.classes import ClassTable


def write_polygons(map_file: Path, classes: ClassTable, file: Path, *, min_pixels: int) -> int:
    """Writes a class map's regions as a GeoPackage, one polygon each.

    Takes memory in proportion to the map: 4 bytes a pixel and what its polygons need.

    Args:
        map_file: the class map.
        classes: names and colours.
        file: GeoPackage to write.
        min_pixels: regions of fewer pixels join their largest neighbour.

    Returns:
        The number of polygons.
    """
    with rasterio.open(map_file) as dataset:
        class_ids, valid = dataset.read(1), dataset.read_masks(1) > 0
        transform, crs = dataset.transform, dataset.crs
    if min_pixels > 1:
        class_ids = sieve(class_ids, size=min_pixels, mask=valid)
    regions = list(shapes(class_ids, mask=valid, transform=transform))
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in regions], object)
    ids = np.array([class_id for _, class_id in regions], np.int32)
    fields = {
        "class_id": ids,
        "class": np.array(classes.names, object)[ids],
        "hectares": np.array([polygon_hectares(crs, polygon) for polygon in polygons], float),
    }
    unfinished = unfinished_name(file)
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, polygons, fields, crs)
        flush(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(regions)


def _write(
    file: Path, polygons: np.ndarray, fields: dict[str, np.ndarray], crs: rasterio.CRS | None
) -> None:
    with warnings.catch_warnings():
        # A plain picture has no coordinate system; its polygons are in pixels.
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.raw.write(
            file,
            geometry=shapely.to_wkb(polygons),
            field_data=list(fields.values()),
            fields=list(fields),
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs else None,
            driver="GPKG",
            layer="land_cover",
        )
