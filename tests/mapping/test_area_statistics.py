import csv
import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from lcc_tf.errors import InputError
from lcc_tf.mapping.area_statistics import Zones
from tests.mapping.scenes import CLASSES, write_class_map


def write_zones(file, *geometries):
    features = [
        {"type": "Feature", "properties": {"id": number}, "geometry": geometry}
        for number, geometry in enumerate(geometries)
    ]
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


def rectangle(left, bottom, right, top):
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_zones_in_degrees_are_transformed_to_a_map_in_meters(tmp_path):
    ids = np.random.default_rng(0).integers(0, 3, (93, 131), np.uint8)
    # Column 40 of the map is at 15 degrees east, which is the center of the UTM zone.
    transform = from_origin(499980, 5200000, 0.5, 0.5)
    write_class_map(tmp_path / "a.tif", ids, transform=transform)
    # The first zone contains column 40 and all columns to its right. At the second zone, the
    # projection of the map is not defined.
    zones = Zones(
        write_zones(
            tmp_path / "zones.geojson", rectangle(15, 46, 16, 47), rectangle(105, 0, 106, 1)
        )
    )
    rows = list(csv.DictReader(zones.areas(tmp_path / "a.tif", CLASSES.names).splitlines()))
    assert [row["id"] for row in rows] == ["0"] * 3 + ["1"] * 3
    pixels = [int(row["pixels"]) for row in rows]
    assert pixels == [*np.bincount(ids[:, 40:].ravel(), minlength=3), 0, 0, 0]


def test_map_without_a_coordinate_system_raises(tmp_path):
    zones = Zones(write_zones(tmp_path / "zones.geojson", rectangle(15, 46, 16, 47)))
    transform = rasterio.Affine.identity()
    write_class_map(tmp_path / "a.png", np.zeros((9, 9), np.uint8), crs=None, transform=transform)
    with pytest.raises(InputError, match="a.png has no coordinate system.*`zones`"):
        zones.areas(tmp_path / "a.png", CLASSES.names)


def test_files_without_polygons_raise(tmp_path):
    (tmp_path / "text.gpkg").write_text("not polygons")
    with pytest.raises(InputError, match="text.gpkg cannot be read as polygons"):
        Zones(tmp_path / "text.gpkg")
    point = {"type": "Point", "coordinates": [15, 46]}
    points = write_zones(tmp_path / "points.geojson", point)
    with pytest.raises(InputError, match="must contain one or more polygons.*1 geometries.*POINT"):
        Zones(points)
