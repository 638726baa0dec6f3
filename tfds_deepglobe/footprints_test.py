import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform

from tfds_deepglobe.__main__ import main
from tfds_deepglobe.archive import open_archive
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import zip_folder
from tfds_deepglobe.footprints import describe_neighbors, distance_groups
from tfds_deepglobe.prepare import prepare
from tfds_deepglobe.splits import plan_split

UTM = "EPSG:32633"
SIDE = 16  # pixels of 10 meters
# Left sides of the images, meters from the first image. The images a and b touch. The gap between
# the images b and c is 80 meters.
LEFT = {"a": 0, "b": 160, "c": 400, "d": 5000, "e": 9000}


def write_images(folder, crs=UTM):
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for name, left in LEFT.items():
        x, y = 500000 + left, 5200000
        # Three corners: northwest, northeast, southwest
        xs, ys = transform(UTM, crs, [x, x + 160, x], [y, y, y - 160])
        a, b, d, e = ((v[k] - v[0]) / SIDE for v in (xs, ys) for k in (1, 2))
        options = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8"}
        with rasterio.open(
            folder / "images" / f"{name}.tif",
            "w",
            crs=crs,
            transform=rasterio.Affine(a, b, xs[0], d, e, ys[0]),
            photometric="RGB",
            **options,
        ) as file:
            file.write(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8))
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / "masks" / f"{name}.png")
    return folder


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
@pytest.mark.parametrize(
    ("meters", "expected"),
    [(None, "aacde"), (5, "aacde"), (70, "aacde"), (90, "aaade"), (4000, "aaadd"), (9999, "aaaaa")],
)
def test_images_near_each_other_are_one_group(tmp_path, crs, meters, expected):
    groups = distance_groups(open_archive(write_images(tmp_path, crs)), meters)
    assert "".join(groups[name] for name in LEFT) == expected


def test_random_split_of_touching_images_prints_a_warning(tmp_path):
    archive = open_archive(write_images(tmp_path))

    def lines(group_by):
        folders = dict.fromkeys(LEFT, "")
        return plan_split(
            folders, group_by=group_by, near=lambda meters: distance_groups(archive, meters)
        ).lines

    (warning,) = describe_neighbors(archive)
    assert "warning: 2 images touch or overlap other images on the ground, such as a, b" in warning
    assert plan_split(dict.fromkeys(LEFT, "")).is_ungrouped
    assert not plan_split(dict.fromkeys(LEFT, ""), group_by="none").is_ungrouped
    assert lines("100m")[0].startswith("random split of 3 groups (at most 100 m apart)")
    groups = [line for line in lines("100m") if ": a" in line]
    assert len(groups) == 1


def test_images_without_georeference_raise(tmp_path):
    archive = open_archive(write_images(tmp_path / "data"))
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "data" / "images" / "c.tif")
    assert distance_groups(archive, None) is None
    with pytest.raises(InputError, match=r"`group_by=5m` needs .* images/c.tif has no coordinate"):
        distance_groups(archive, 5)


def test_zip_is_read_only_for_a_distance(tmp_path):
    zip_folder(write_images(tmp_path / "data"), tmp_path / "data.zip")
    archive = open_archive(tmp_path / "data.zip")
    assert distance_groups(archive, None) is None
    assert len(set(distance_groups(archive, 100).values())) == 3


def test_warning_is_printed_by_check_and_at_the_first_preparation(tmp_path, capsys):
    folder = write_images(tmp_path / "data")
    (folder / "class_dict.csv").write_text("name,id\na,0\nb,1\n")
    for index, name in enumerate(LEFT):  # equal images would be copies
        with rasterio.open(folder / "images" / f"{name}.tif", "r+") as file:
            file.write(np.full((1, 4, 4), index, np.uint8)[0], 1, window=((0, 4), (0, 4)))
    assert main(["check", "--data", str(folder)]) == 0
    assert "warning: 2 images touch" in capsys.readouterr().out
    for expected in (True, False):
        prepare(folder, tmp_path / "tfds", num_shards=1)
        assert ("warning: 2 images touch" in capsys.readouterr().out) == expected


# Mercator, plate carree, two equal-area projections, and a UTM zone in another part of the world
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4087", "EPSG:6933", "ESRI:54009", "EPSG:32640"])
def test_distances_are_meters_on_the_ground(tmp_path, crs):
    archive = open_archive(write_images(tmp_path, crs))
    for meters, expected in ((70, "aacde"), (90, "aaade")):
        groups = distance_groups(archive, meters)
        assert "".join(groups[name] for name in LEFT) == expected


@pytest.mark.parametrize(("longitude", "latitude"), [(180, 65), (-6, 0), (24, -70)])
def test_neighbors_in_two_utm_zones_are_one_group(tmp_path, longitude, latitude):
    archive = open_archive(write_images(tmp_path))
    width = 10 / (111_320 * np.cos(np.radians(latitude)))  # degrees per pixel of 10 meters
    for name, meters in LEFT.items():
        left = longitude + (meters - 360) / 10 * width
        left -= 360 * (left >= 180)
        with rasterio.open(tmp_path / "images" / f"{name}.tif", "r+") as file:
            file.crs, file.transform = "EPSG:4326", from_origin(left, latitude, width, 9e-5)
    for meters, expected in ((70, "aacde"), (90, "aaade")):
        groups = distance_groups(archive, meters)
        assert "".join(groups[name] for name in LEFT) == expected


def test_local_coordinate_systems_have_no_positions(tmp_path):
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    archive = open_archive(write_images(tmp_path))
    for name in LEFT:
        with rasterio.open(tmp_path / "images" / f"{name}.tif", "r+") as file:
            file.crs = local
    assert describe_neighbors(archive) == []
    with pytest.raises(InputError, match="`group_by=5m` needs georeferenced images"):
        distance_groups(archive, 5)
