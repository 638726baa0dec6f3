import csv
import json
import re

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from lcc_tf.errors import InputError
from lcc_tf.mapping.zones import Zones
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


def rows_of(zones, map_file):
    """Returns the rows of the table of areas, and the warning."""
    text, warning = zones.areas(map_file, CLASSES.names)
    return list(csv.DictReader(text.splitlines())), warning


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
    rows, warning = rows_of(zones, tmp_path / "a.tif")
    assert "1 of 2 zones contain no mapped pixels (1 outside the map)" in warning
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


def map_of_ones(path, size=(20, 30), **georeference):
    """Writes a class map in which all pixels have the class 1."""
    write_class_map(path, np.ones(size, np.uint8), **georeference)
    return path


FIJI = {"crs": "EPSG:4326", "transform": from_origin(179.9, 10, 0.01, 0.01)}  # up to 180.2 degrees
FIJI_UTM = {"crs": "EPSG:32760", "transform": from_origin(800000, 8010000, 100, 100)}


@pytest.mark.parametrize(
    ("georeference", "zone", "pixels"),
    [
        ({}, rectangle(-180, -90, 180, 90), 600),
        (FIJI, rectangle(-180, -90, 180, 90), 600),
        (FIJI, rectangle(-180, 9, -179, 11), 400),  # the columns beyond 180 degrees
        (FIJI, rectangle(180, 9, 181, 11), 400),
        (FIJI, rectangle(179, 9, 180, 11), 200),
        (FIJI_UTM, rectangle(-180, -90, 180, 90), 600),
    ],
)
def test_large_zones_and_zones_beyond_180_degrees_contain_the_map(
    tmp_path, georeference, zone, pixels
):
    map_file = map_of_ones(tmp_path / "a.tif", **georeference)
    rows, warning = rows_of(Zones(write_zones(tmp_path / "zones.geojson", zone)), map_file)
    assert [int(row["pixels"]) for row in rows] == [0, pixels, 0]
    assert warning == ""


def test_map_that_crosses_180_degrees_is_divided_by_zones(tmp_path):
    map_file = map_of_ones(tmp_path / "a.tif", (500, 500), **FIJI_UTM)
    halves = rectangle(179, -20, 180, -17), rectangle(-180, -20, -179, -17)
    rows, _ = rows_of(Zones(write_zones(tmp_path / "zones.geojson", *halves)), map_file)
    west, east = (int(rows[number]["pixels"]) for number in (1, 4))
    assert west > 0
    assert east > 0
    assert west + east == pytest.approx(500 * 500, abs=500)


@pytest.mark.parametrize(
    ("zone", "cause"),
    [
        (rectangle(0, 0, 1, 1), "1 outside the map.*of the zones.* 0, 0, 1, 1, and the map.* 15"),
        (rectangle(15.00000001, 46.953, 15.00000002, 46.954), "1 too small.*or at the map border"),
    ],
)
def test_zones_without_mapped_pixels_are_reported_with_the_cause(tmp_path, zone, cause):
    map_file = map_of_ones(tmp_path / "a.tif")
    rows, warning = rows_of(Zones(write_zones(tmp_path / "zones.geojson", zone)), map_file)
    assert [row["pixels"] for row in rows] == ["0"] * 3
    assert re.search(f"a.tif: 1 of 1 zones contain no mapped pixels .*{cause}", warning)


def test_zones_whose_coordinate_system_is_not_defined_on_the_map(tmp_path):
    crs = "+proj=ortho +lat_0=40 +lon_0=-150"
    file = write_layer(tmp_path / "zones.gpkg", "x", [shapely.box(0, 0, 1, 1)], crs=crs)
    _, warning = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert "(1 outside the map); the coordinate system of the zones is not defined" in warning


def test_zones_in_meters_that_claim_to_be_degrees_raise(tmp_path):
    zones = write_zones(tmp_path / "zones.geojson", rectangle(400005, 5799990, 400015, 5799995))
    with pytest.raises(InputError, match="must be degrees.*up to 400015, 5.8e.06.*GeoJSON always"):
        Zones(zones)


def write_layer(file, layer, geometries, kind="Polygon", crs="EPSG:32633", **fields):
    fields = fields or {"id": np.arange(len(geometries))}
    pyogrio.raw.write(
        file,
        geometry=shapely.to_wkb(np.array(geometries, object)),
        field_data=list(fields.values()),
        fields=list(fields),
        geometry_type=kind,
        crs=crs,
        driver="GPKG",
        layer=layer,
        append=file.exists(),
    )
    return file


PARCEL = shapely.box(500001, 5199995, 500005, 5199999)  # 8 x 8 pixels


def test_attributes_with_names_of_columns_get_a_prefix(tmp_path):
    fields = {
        "Class": np.array(["oak"], object),
        "pixels": np.array([7]),
        "zone": np.array(["Z-17"], object),
        "attribute_zone": np.array([3]),
        "owner": np.array(["me"], object),
    }
    file = write_layer(tmp_path / "zones.gpkg", "fields", [PARCEL], **fields)
    rows, _ = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert list(rows[1].items()) == [
        ("zone", "1"),
        ("attribute_Class", "oak"),
        ("attribute_pixels", "7"),
        ("attribute_zone", "Z-17"),
        ("attribute_attribute_zone", "3"),
        ("owner", "me"),
        ("class", "water"),
        ("pixels", "64"),
        ("share", "1.000000"),
        ("hectares", "0.0016"),
    ]


def test_layer_with_polygons_is_found_or_chosen(tmp_path):
    file = write_layer(tmp_path / "zones.gpkg", "trees", [shapely.Point(500001, 5199999)], "Point")
    write_layer(file, "parcels", [PARCEL])
    map_file = map_of_ones(tmp_path / "a.tif")
    assert rows_of(Zones(file), map_file)[0][1]["pixels"] == "64"
    write_layer(file, "lakes", [shapely.box(500001, 5199995, 500003, 5199999)])
    with pytest.raises(InputError, match="several layers.*: parcels, lakes. Use `zones=.*:parcels"):
        Zones(file)
    chosen = Zones(file.with_name("zones.gpkg:lakes"))
    assert rows_of(chosen, map_file)[0][1]["pixels"] == "32"
    with pytest.raises(InputError, match="name a layer of .* trees, parcels, lakes.*'roads'"):
        Zones(file.with_name("zones.gpkg:roads"))
    with pytest.raises(InputError, match="must contain one or more polygons.*POINT"):
        Zones(file.with_name("zones.gpkg:trees"))
    with pytest.raises(InputError, match="gone.gpkg cannot be read as polygons"):
        Zones(tmp_path / "gone.gpkg")


def test_layers_of_any_geometry_and_names_with_colons_are_found(tmp_path):
    file = write_layer(tmp_path / "zones.gpkg", "a:b", [PARCEL], "Unknown")
    map_file = map_of_ones(tmp_path / "a.tif")
    assert rows_of(Zones(file), map_file)[0][1]["pixels"] == "64"
    write_layer(file, "c", [PARCEL], "Unknown")
    with pytest.raises(InputError, match="several layers.*: a:b, c. Use"):
        Zones(file)
    chosen = Zones(file.with_name("zones.gpkg:a:b"))
    assert rows_of(chosen, map_file)[0][1]["pixels"] == "64"


def test_ring_that_is_not_closed_raises(tmp_path):
    polygon = rectangle(15, 46, 16, 47)
    del polygon["coordinates"][0][-1]
    with pytest.raises(InputError, match="contains a damaged polygon: .* Repair the polygons"):
        Zones(write_zones(tmp_path / "zones.geojson", polygon))


@pytest.mark.parametrize("geometries", [[shapely.Polygon()], [None]])
def test_files_with_only_empty_geometries_raise(tmp_path, geometries):
    with pytest.raises(InputError, match="must contain one or more polygons"):
        Zones(write_layer(tmp_path / "zones.gpkg", "empty", geometries))


@pytest.mark.parametrize(
    "zone",
    [
        shapely.Polygon(
            [(500001, 5199995), (500005, 5199999), (500005, 5199995), (500001, 5199999)]
        ),
        shapely.Polygon([(x, y, 7.0) for x, y in PARCEL.exterior.coords]),
        shapely.MultiPolygon([PARCEL, shapely.box(500010, 5199995, 500014, 5199999)]),
    ],
)
def test_polygons_of_any_kind_contain_pixels(tmp_path, zone):
    file = write_layer(tmp_path / "zones.gpkg", "any", [zone], "Unknown")
    rows, warning = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert int(rows[1]["pixels"]) >= 24
    assert warning == ""


def test_zone_without_geometry_has_no_pixels(tmp_path):
    file = write_layer(tmp_path / "zones.gpkg", "null", [PARCEL, None])
    rows, warning = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert [row["pixels"] for row in rows] == ["0", "64", "0", "0", "0", "0"]
    assert "1 of 2 zones contain no mapped pixels" in warning


@pytest.mark.parametrize("attribute", ["a", "b"])
def test_fingerprint_changes_with_attributes_and_polygons(tmp_path, attribute):
    first = write_layer(tmp_path / "1.gpkg", "x", [PARCEL], name=np.array(["a"], object))
    second = write_layer(tmp_path / "2.gpkg", "x", [PARCEL], name=np.array([attribute], object))
    moved = write_layer(tmp_path / "3.gpkg", "x", [PARCEL.buffer(1)], name=np.array(["a"], object))
    same = Zones(first).fingerprint == Zones(second).fingerprint
    assert same == (attribute == "a")
    assert Zones(first).fingerprint != Zones(moved).fingerprint


@pytest.mark.parametrize(
    ("zone", "inside"),
    [
        (rectangle(5, 70, 80, 80), lambda x, y: (x > 5) & (x < 80) & (y > 70) & (y < 80)),
        (rectangle(-180, 80, 180, 90), lambda x, y: y >= 80),
    ],
)
def test_edges_of_zones_are_straight_in_degrees(tmp_path, zone, inside):
    """The map is a polar stereographic projection, in which parallels are circles."""
    transform = from_origin(-2.5e6, 2.5e6, 25000, 25000)
    map_file = map_of_ones(tmp_path / "a.tif", (200, 200), crs="EPSG:3413", transform=transform)
    rows, _ = rows_of(Zones(write_zones(tmp_path / "zones.geojson", zone)), map_file)
    rows_and_columns = np.mgrid[:200, :200] + 0.5
    x, y = transform @ rows_and_columns[::-1].reshape(2, -1)
    to_degrees = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    expected = inside(*to_degrees.transform(x, y)).sum()
    assert int(rows[1]["pixels"]) == pytest.approx(expected, rel=2e-3)


def test_projected_zones_on_a_map_beyond_180_degrees(tmp_path):
    transform = from_origin(173.5, -10, 0.1, 0.1)  # up to 186.5 degrees
    map_file = map_of_ones(tmp_path / "a.tif", (100, 130), crs="EPSG:4326", transform=transform)
    mercator = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3832", always_xy=True)
    boxes = [shapely.box(175, -16, 185, -12), shapely.box(181, -18, 183, -11)]
    file = tmp_path / "zones.gpkg"
    zones = [
        shapely.transform(box, lambda xy: np.column_stack(mercator.transform(*xy.T)))
        for box in boxes
    ]
    write_layer(file, "x", zones, crs="EPSG:3832")
    rows, warning = rows_of(Zones(file), map_file)
    assert [int(row["pixels"]) for row in rows] == [0, 4000, 0, 0, 1400, 0]
    assert warning == ""


def test_attributes_with_missing_values_are_not_changed(tmp_path):
    """Large whole numbers are not exact as floats."""
    attributes = [
        {"parcel": 9007199254740993, "used": True, "date": "2020-01-02", "height": 1.5},
        {"parcel": None, "used": None, "date": None, "height": None},
    ]
    features = [
        {"type": "Feature", "properties": values, "geometry": rectangle(15, 46, 16, 47)}
        for values in attributes
    ]
    file = tmp_path / "zones.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    rows, _ = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    values = [[rows[i][name] for name in attributes[0]] for i in (0, 3)]
    assert values == [["9007199254740993", "True", "2020-01-02", "1.5"], [""] * 4]


def test_zones_east_of_180_degrees_contain_a_map_in_the_west(tmp_path):
    transform = from_origin(-179, 10, 0.01, 0.01)
    map_file = map_of_ones(tmp_path / "a.tif", crs="EPSG:4326", transform=transform)
    zones = write_zones(tmp_path / "zones.geojson", rectangle(181, 9, 181.1, 11))
    rows, _ = rows_of(Zones(zones), map_file)
    assert int(rows[1]["pixels"]) == 200


def test_zones_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("lcc_tf.mapping.polygon_pixels.LARGEST", 7)
    ids = np.random.default_rng(0).integers(0, 3, (20, 30), np.uint8)
    write_class_map(tmp_path / "a.tif", ids)
    zones = write_zones(tmp_path / "zones.geojson", rectangle(-180, -90, 180, 90))
    rows, _ = rows_of(Zones(zones), tmp_path / "a.tif")
    assert [int(row["pixels"]) for row in rows] == np.bincount(ids.ravel()).tolist()


def test_zones_whose_parts_all_collapse_have_no_pixels(tmp_path):
    map_file = map_of_ones(tmp_path / "a.tif")
    line = shapely.Polygon([(500001, 5199999), (500009, 5199991), (500001, 5199999)])
    rows, warning = rows_of(Zones(write_layer(tmp_path / "zones.gpkg", "x", [line])), map_file)
    assert [int(row["pixels"]) for row in rows] == [0, 0, 0]
    assert "1 of 1 zones contain no mapped pixels" in warning


def test_lists_are_attributes_of_zones(tmp_path):
    file = write_zones(tmp_path / "zones.geojson", rectangle(15, 46, 16, 47))
    content = json.loads(file.read_text())
    content["features"][0]["properties"]["owners"] = [1, 2]
    file.write_text(json.dumps(content))
    rows, _ = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert rows[0]["owners"] == "[1, 2]"


def test_zones_on_another_planet_raise(tmp_path):
    square = shapely.box(15, 46, 16, 47)
    file = write_layer(tmp_path / "zones.gpkg", "x", [square], crs="IAU_2015:30100")
    with pytest.raises(InputError, match="same planet.*zones.gpkg.*a.tif"):
        Zones(file).areas(map_of_ones(tmp_path / "a.tif"), CLASSES.names)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_that_are_not_numbers_raise(tmp_path, value):
    points = [(500001, 5199999), (500009, 5199999), (value, 5199991), (500001, 5199999)]
    square = shapely.box(500001, 5199991, 500009, 5199999)
    file = write_layer(tmp_path / "zones.gpkg", "x", [square, shapely.Polygon(points)])
    with pytest.raises(InputError, match="zones.gpkg contains.*zone 2.*not a number.*remove"):
        Zones(file)


@pytest.mark.parametrize("suffix", ["geojson", "geojsonl", "gml"])
def test_missing_numbers_of_files_with_large_ids(tmp_path, suffix):
    """Numbers of 64 bits are exact, also if features have ids above 2**32."""
    square = shapely.box(15, 46, 15.1, 46.1)
    file = tmp_path / f"zones.{suffix}"
    values = [2**53 + 1, -(2**62) - 1, None]
    if suffix == "gml":
        pyogrio.raw.write(
            file,
            geometry=shapely.to_wkb(np.array([square] * 3, object)),
            field_data=[np.array([2**53 + 1, -(2**62) - 1, 0])],
            field_mask=[np.array([False, False, True])],
            fields=["height"],
            geometry_type="Polygon",
            crs="EPSG:4326",
            driver="GML",
        )
    else:
        features = [
            {
                "type": "Feature",
                "id": number,
                "properties": {"height": value},
                "geometry": shapely.geometry.mapping(square),
            }
            for number, value in zip([1, 2**32 + 1, 7], values, strict=True)
        ]
        text = "\n".join(map(json.dumps, features))
        if suffix == "geojson":
            text = json.dumps({"type": "FeatureCollection", "features": features})
        file.write_text(text)
    zones = Zones(file)
    index = zones.fields.index("height")
    assert [row[index] for row in zones.values] == values


@pytest.mark.parametrize("horizontal", [True, False])
def test_pixels_on_the_edge_of_two_zones_belong_to_one_of_them(tmp_path, horizontal):
    """The common edge is a line through the centers of pixels."""
    map_file = map_of_ones(tmp_path / "a.tif")
    left, bottom, right, top = 500000, 5199990, 500015, 5200000
    if horizontal:
        boxes = [(left, bottom, right, 5199994.75), (left, 5199994.75, right, top)]
    else:
        boxes = [(left, bottom, 500004.25, top), (500004.25, bottom, right, top)]
    file = write_layer(tmp_path / "zones.gpkg", "x", [shapely.box(*box) for box in boxes])
    rows, _ = rows_of(Zones(file), map_file)
    assert int(rows[1]["pixels"]) + int(rows[4]["pixels"]) == 600


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((-180, 0, 180, 80), 115200),
        ((-170, -60, 170, 60), 163200),
        ((-10, 0, 179, 80), 60480),
        ((-120, 0, 100, 50), 44000),
    ],
)
def test_wide_projected_zones_on_a_map_of_the_world(tmp_path, box, pixels):
    transform = from_origin(-180, 90, 0.5, 0.5)
    map_file = map_of_ones(tmp_path / "a.tif", (360, 720), crs="EPSG:4326", transform=transform)
    corners = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    zone = shapely.box(*corners.transform(*box[:2]), *corners.transform(*box[2:]))
    file = write_layer(tmp_path / "zones.gpkg", "x", [zone], crs="EPSG:3857")
    rows, _ = rows_of(Zones(file), map_file)
    assert int(rows[1]["pixels"]) == pixels


def test_polar_zone_with_a_hole_on_a_map_in_degrees(tmp_path):
    transform = from_origin(-180, 90, 0.5, 0.5)
    map_file = map_of_ones(tmp_path / "a.tif", (360, 720), crs="EPSG:4326", transform=transform)
    polar = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True)
    rings = [
        np.column_stack(polar.transform(np.arange(0, 360, 0.25), np.full(1440, latitude)))
        for latitude in (70.1, 80.1)
    ]
    cap, inner = map(shapely.Polygon, rings)
    file = write_layer(tmp_path / "zones.gpkg", "x", [cap, cap - inner], crs="EPSG:3413")
    rows, _ = rows_of(Zones(file), map_file)
    assert [int(rows[i]["pixels"]) for i in (1, 4)] == [40 * 720, 20 * 720]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:25833"])
@pytest.mark.parametrize("right", [500010, 500020])
def test_zone_with_crossing_edges_has_all_its_parts(tmp_path, crs, right):
    """The zone looks like a bow tie. A part of the larger zone is outside the map."""
    corners = [(500000, 5199990), (right, 5200000), (right, 5199990), (500000, 5200000)]
    file = write_layer(tmp_path / "zones.gpkg", "x", [shapely.Polygon(corners)], crs=crs)
    rows, _ = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    expected = 200 if right == 500010 else 250
    assert int(rows[1]["pixels"]) == pytest.approx(expected, abs=25)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_names_of_attributes_can_contain_quotes(tmp_path, suffix):
    file = tmp_path / f"zones{suffix}"
    pyogrio.raw.write(
        file,
        geometry=shapely.to_wkb(np.array([PARCEL] * 2, object)),
        field_data=[np.array([7, 0]), np.array([0.1, 2], np.float32)],
        field_mask=[np.array([False, True]), None],
        fields=['a"b', "height"],
        geometry_type="Polygon",
        crs="EPSG:32633",
    )
    rows, _ = rows_of(Zones(file), map_of_ones(tmp_path / "a.tif"))
    assert [rows[i]['a"b'] for i in (0, 3)] == ["7", ""]
    assert float(rows[0]["height"]) == pytest.approx(0.1, rel=1e-7)
    assert suffix == ".shp" or rows[0]["height"] == "0.1"
