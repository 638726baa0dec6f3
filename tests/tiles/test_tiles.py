"""Tiles from scenes and polygons."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.features import shapes
from rasterio.transform import from_origin
from rasterio.warp import transform_geom
from rasterio.windows import Window

from lcc_tf.cli import tiles
from lcc_tf.errors import InputError
from lcc_tf.mapping.color_bands import find_color_bands
from lcc_tf.mapping.zones import Zones
from lcc_tf.tiles.cutting import cut_scenes
from lcc_tf.tiles.labels import Labels
from lcc_tf.tiles.report import report_lines
from lcc_tf.tiles.tile_bands import TileBands
from tests.mapping.scenes import write_scene
from tfds_deepglobe.classes import VOID_ID
from tfds_deepglobe.prepare import prepare

ROOT = Path(__file__).parents[2]
UTM, SIDE = "EPSG:32633", 96
HALF_METER = from_origin(500000, 5200000, 0.5, 0.5)
NAMES = ("forest", "road", "water")


def class_ids(side=SIDE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (side // 8, side // 8), np.uint8).repeat(8, 0).repeat(8, 1)


def image_of(ids, bands=3, dtype=np.uint8):
    rng = np.random.default_rng(1)
    return (40 + 60 * ids[..., None] + rng.integers(0, 30, (*ids.shape, bands))).astype(dtype)


def write_polygons(path, geometries, names, crs=UTM, column="class"):
    shapes = np.array([shapely.geometry.shape(geometry) for geometry in geometries])
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapes),
        [np.array(names, object)],
        [column],
        geometry_type="Polygon",
        crs=crs,
    )
    return path


def polygons_of(ids, transform=HALF_METER):
    found = [(geometry, NAMES[int(value)]) for geometry, value in shapes(ids, transform=transform)]
    return [geometry for geometry, _ in found], [name for _, name in found]


def box(left, top, right, bottom, transform=HALF_METER):
    """Returns a rectangle, in pixels."""
    corners = [transform @ corner for corner in ((left, top), (right, bottom))]
    return shapely.geometry.mapping(shapely.box(*corners[0], *corners[1]))


def labels_of(path, **options):
    return Labels(Zones(path, argument="labels"), "class", **options)


def masks_of(folder):
    masks = {}
    for file in sorted(folder.glob("masks/*/*.png")):
        masks[f"{file.parent.name}/{file.stem}"] = np.asarray(Image.open(file))
    return masks


@pytest.fixture
def scene(tmp_path):
    """A scene whose polygons are the edges of its pixels."""
    ids = class_ids()
    write_scene(tmp_path / "scene.tif", image_of(ids), photometric="RGB")
    write_polygons(tmp_path / "labels.gpkg", *polygons_of(ids))
    return tmp_path


def joined(folder, side=SIDE):
    """Joins the masks of a folder."""
    whole = np.full((side, side), 99, np.uint8)
    for name, mask in masks_of(folder).items():
        row, column = map(int, name.split("_")[-2:])
        whole[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
    return whole


@pytest.mark.parametrize("tile_size", [32, 40, 200])
def test_masks_equal_the_raster_of_the_polygons(scene, tile_size):
    output = scene / "tiles"
    labels = labels_of(scene / "labels.gpkg")
    report = cut_scenes([scene / "scene.tif"], labels, output, tile_size=tile_size, block_tiles=2)
    assert labels.names == NAMES
    np.testing.assert_array_equal(joined(output), class_ids())
    assert report.num_void == report.num_empty == 0
    np.testing.assert_array_equal(report.pixels, np.bincount(class_ids().ravel()))
    with rasterio.open(scene / "scene.tif") as whole:
        for file in output.glob("images/*/*.tif"):
            row, column = map(int, file.stem.split("_")[-2:])
            with rasterio.open(file) as tile:
                assert tile.crs == whole.crs
                assert tile.transform @ (0, 0) == whole.transform @ (column, row)
                window = rasterio.windows.Window(column, row, tile.width, tile.height)
                np.testing.assert_array_equal(tile.read(), whole.read(window=window))


def test_tiles_can_be_prepared_and_blocks_are_not_separated(scene, tmp_path, capsys):
    output = scene / "tiles"
    labels = labels_of(scene / "labels.gpkg")
    cut_scenes([scene / "scene.tif"], labels, output, tile_size=32, block_tiles=1)
    builder = prepare(output, tmp_path / "tfds", group_by="folder", void=["255"], num_shards=1)
    assert "random split of 9 groups (folder)" in capsys.readouterr().out
    blocks = {}
    for split in builder.info.splits:
        for example in builder.as_dataset(split=split).as_numpy_iterator():
            row, column = map(int, example["id"].decode().split("_")[-2:])
            blocks.setdefault((row // 32, column // 32), set()).add(split)
            mask = example["segmentation_mask"][..., 0]
            expected = class_ids()[row : row + 32, column : column + 32]
            np.testing.assert_array_equal(mask, expected)
    assert len(blocks) == 9
    assert all(len(splits) == 1 for splits in blocks.values())


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_polygons_in_another_coordinate_system_give_the_same_masks(scene, crs):
    geometries, names = polygons_of(class_ids())
    other = [transform_geom(UTM, crs, geometry) for geometry in geometries]
    write_polygons(scene / "other.gpkg", other, names, crs=crs)
    cut_scenes([scene / "scene.tif"], labels_of(scene / "other.gpkg"), scene / "tiles")
    assert (joined(scene / "tiles") == class_ids()).mean() > 0.999


def test_south_up_and_rotated_scenes_are_labelled(scene):
    ids = class_ids()
    for name, array, transform in (
        (
            "flipped",
            ids[::-1],
            HALF_METER @ HALF_METER.translation(0, SIDE) @ HALF_METER.scale(1, -1),
        ),
        (
            "turned",
            np.rot90(ids),
            HALF_METER @ HALF_METER.translation(SIDE, 0) @ HALF_METER.rotation(90),
        ),
    ):
        write_scene(scene / f"{name}.tif", image_of(array), transform=transform)
        cut_scenes([scene / f"{name}.tif"], labels_of(scene / "labels.gpkg"), scene / name)
        assert (joined(scene / name) == array).mean() > 0.999, name


def test_ground_without_polygons_is_void_and_empty_tiles_are_skipped(scene):
    ids = class_ids()
    geometries = [box(0, 0, 20, 20), box(20, 0, 30, 20)]
    write_polygons(scene / "few.gpkg", geometries, ["water", "road"])
    report = cut_scenes(
        [scene / "scene.tif"], labels_of(scene / "few.gpkg"), scene / "tiles", tile_size=32
    )
    (mask,) = masks_of(scene / "tiles").values()
    expected = np.full((32, 32), VOID_ID)
    expected[:20, :20], expected[:20, 20:30] = 1, 0
    np.testing.assert_array_equal(mask, expected)
    assert (report.num_tiles, report.num_empty) == (1, 8)
    assert len(ids) == SIDE


def test_areas_bound_the_labels_and_contain_the_background(scene):
    write_polygons(scene / "few.gpkg", [box(0, 0, 20, 20), box(60, 60, 90, 90)], ["a", "b"])
    areas = Zones(write_polygons(scene / "areas.gpkg", [box(10, 10, 40, 40)], ["x"]))
    labels = labels_of(scene / "few.gpkg", areas=areas, background="other")
    cut_scenes([scene / "scene.tif"], labels, scene / "tiles", tile_size=96)
    expected = np.full((SIDE, SIDE), VOID_ID)
    expected[10:40, 10:40] = 0
    expected[10:20, 10:20] = 1
    assert labels.names == ("other", "a", "b")
    np.testing.assert_array_equal(joined(scene / "tiles"), expected)
    assert labels.is_used.all()


def test_report_lists_problems_of_the_polygons(scene):
    far = box(9000, 0, 9010, 10)
    geometries = [box(0, 0, 96, 96), box(10, 10, 30, 30), box(0, 0, 5, 5), far, box(20, 20, 22, 22)]
    names = ["land", "water", None, "land", "rare"]
    write_polygons(scene / "labels.gpkg", geometries, names)
    write_scene(scene / "empty.tif", image_of(class_ids()), transform=from_origin(0, 0, 1, 1))
    labels = labels_of(scene / "labels.gpkg")
    report = cut_scenes([scene / "scene.tif", scene / "empty.tif"], labels, None)
    text = "\n".join(report_lines(report, labels))
    assert "warning: 1 classes have less than 0.1% of the labelled pixels: rare" in text
    # water and rare on land, rare on water, and the polygon without a class on land
    assert f"overlap on {20 * 20 + 5 * 5} pixels; these pixels have" in text
    assert "warning: 1 polygons have no value of class" in text
    assert "warning: 1 of 5 polygons contain no pixel of a scene, such as polygon number 4" in text
    assert "warning: 1 scenes have no labelled pixel" in text
    assert "warning: a random split needs 3 blocks of ground or more. Received: 1" in text
    assert not (scene / "tiles").exists()


def test_last_polygon_counts_where_polygons_overlap(scene):
    geometries = [box(0, 0, 96, 96), box(10, 10, 30, 30)]
    for names, expected in ((("a", "b"), 1), (("b", "a"), 0)):
        write_polygons(scene / f"{names[0]}.gpkg", geometries, names)
        labels = labels_of(scene / f"{names[0]}.gpkg")
        cut_scenes([scene / "scene.tif"], labels, scene / names[0], tile_size=96)
        assert (joined(scene / names[0])[10:30, 10:30] == expected).all()


def test_ground_of_overlapping_scenes_is_in_one_block(scene):
    ids = class_ids()
    shift = 20  # pixels; the second scene shows the same ground
    moved = HALF_METER @ HALF_METER.translation(shift, shift)
    write_scene(scene / "second.tif", image_of(ids), transform=moved)
    write_polygons(scene / "all.gpkg", [box(0, 0, 60, 120), box(60, 0, 120, 120)], ["a", "b"])
    scenes = [scene / "scene.tif", scene / "second.tif"]
    cut_scenes(scenes, labels_of(scene / "all.gpkg"), scene / "tiles", tile_size=32, block_tiles=1)
    blocks = {}
    for file in (scene / "tiles" / "images").glob("*/*.tif"):
        mask = np.asarray(
            Image.open(scene / "tiles" / "masks" / file.parent.name / f"{file.stem}.png")
        )
        with rasterio.open(file) as tile:
            rows, columns = np.nonzero(mask != VOID_ID)
            x, y = tile.transform @ (columns + 0.5, rows + 0.5)
        for point in zip(np.round(x, 3), np.round(y, 3), strict=True):
            blocks.setdefault(point, set()).add(file.parent.name)
    assert max(map(len, blocks.values())) == 1
    assert len(blocks) > SIDE**2


def test_nodata_and_transparent_pixels_are_void(scene):
    ids = class_ids()
    image = image_of(ids)
    image[:10] = 0
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:, :10] = 0
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write_scene(scene / "nodata.tif", image, nodata=0)
    write_scene(scene / "alpha.tif", np.concatenate([image, alpha], -1), colorinterp=kinds)
    for name, void in (("nodata", np.s_[:10]), ("alpha", np.s_[:, :10])):
        cut_scenes(
            [scene / f"{name}.tif"], labels_of(scene / "labels.gpkg"), scene / name, tile_size=96
        )
        mask = joined(scene / name)
        assert (mask[void] == VOID_ID).all()
        mask[void] = ids[void]
        np.testing.assert_array_equal(mask, ids)
        (file,) = (scene / name / "images").glob("*/*.tif")
        with rasterio.open(file) as tile:
            assert tile.count == 3


def test_bands_and_values_are_kept(scene):
    image = image_of(class_ids(), bands=5, dtype=np.float32) / 7
    write_scene(scene / "bands.tif", image)
    with rasterio.open(scene / "bands.tif", "r+") as file:
        file.descriptions = tuple("abcde")
    cut_scenes(
        [scene / "bands.tif"], labels_of(scene / "labels.gpkg"), scene / "tiles", tile_size=96
    )
    (file,) = (scene / "tiles" / "images").glob("*/*.tif")
    with rasterio.open(file) as tile:
        assert tile.descriptions == tuple("abcde")
        np.testing.assert_array_equal(np.moveaxis(tile.read(), 0, -1), image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--label-field", "kind"), r"`label_field` must be an attribute of .*: class. Received"),
        (("--background", "other"), "`background` needs `areas`"),
        (("--scenes", "gone/*.tif"), "`scenes` must match image files"),
        (("--labels", "gone.gpkg"), "gone.gpkg cannot be read as polygons"),
        (("--labels", "labels.gpkg:gone"), "`labels` must name a layer of labels.gpkg"),
        (("--labels", "one.gpkg"), "2 to 254 classes. Received: 1 different values of class"),
        (("--labels", "far.gpkg"), "contain no valid pixel of the scenes, such as scene.tif"),
        (("--scenes", "photo.tif"), "photo.tif has no coordinate system"),
        (("--scenes", "text.tif"), "text.tif cannot be read as an image"),
        (("--scenes", "cut.tif"), "cut.tif cannot be read as an image"),
        (("--scenes", "s[2c]*.tif"), "must have the same bands and dtype.*3 bands of uint8"),
        (
            ("--scenes", "[st]c[eo]*.tif"),
            r"different images. Received: scene.tif and tcopy.tif with",
        ),
        (("--scenes", "o?.tif"), "in the same order.*red, green, blue, nir.*blue, green, red, nir"),
        (
            ("--scenes", "i?.tif"),
            "in the same order.*red, green, blue, band 4.*blue, green, red, b",
        ),
        (("--scenes", "palette.tif"), "palette.tif contains palette indices instead of colors"),
        (("--scenes", "inverted.tif"), "inverted.tif must store bright pixels as large values"),
        (("--scenes", "double.tif"), "uint8, uint16, int16, float32. Received: float64 in double"),
        (("--tile-size", "16"), "`tile_size` must be 32 pixels or more.*tile_size=16"),
        (("--output", "full"), "full contains other files"),
    ],
)
def test_invalid_inputs_raise_and_nothing_is_written(scene, arguments, message):
    write_polygons(scene / "one.gpkg", [box(0, 0, 9, 9)], ["a"])
    write_polygons(scene / "far.gpkg", [box(0, 999, 9, 1000), box(9, 999, 10, 1000)], ["a", "b"])
    Image.new("RGB", (64, 64)).save(scene / "photo.tif")
    (scene / "cut.tif").write_bytes((scene / "scene.tif").read_bytes()[:9000])
    write_scene(scene / "s2.tif", image_of(class_ids(), bands=4))
    for name, colors in (("o1", "red green blue nir"), ("o2", "blue green red nir")):
        write_scene(scene / f"{name}.tif", image_of(class_ids(), bands=4) + int(name[1]))
        with rasterio.open(scene / f"{name}.tif", "r+") as file:
            file.descriptions = tuple(colors.split())
    red, green, blue = (ColorInterp[color] for color in ("red", "green", "blue"))
    image = image_of(class_ids(), bands=4)
    write_scene(scene / "i1.tif", image, colorinterp=(red, green, blue, ColorInterp.alpha))
    kinds = blue, green, red, ColorInterp.undefined
    write_scene(scene / "i2.tif", image, colorinterp=kinds, photometric="minisblack")
    gray = image_of(class_ids(), bands=1)
    write_scene(scene / "palette.tif", gray)
    with rasterio.open(scene / "palette.tif", "r+") as file:
        file.write_colormap(1, {value: (value, 0, 0, 255) for value in range(256)})
    write_scene(scene / "inverted.tif", gray, photometric="miniswhite")
    write_scene(scene / "double.tif", image_of(class_ids(), dtype=np.float64))
    (scene / "tcopy.tif").write_bytes((scene / "scene.tif").read_bytes())
    (scene / "text.tif").write_text("text")
    (scene / "full").mkdir()
    (scene / "full" / "mine.txt").write_text("mine")
    options = {"--scenes": "scene.tif", "--labels": "labels.gpkg", "--label-field": "class"}
    options |= {"--output": "tiles", arguments[0]: arguments[1]}
    command = [text for option in options.items() for text in option]
    with contextlib.chdir(scene), pytest.raises(InputError, match=message):
        tiles.command(tiles.parser().parse_args(command))
    assert not (scene / "tiles").exists()
    assert not list(scene.glob(".unfinished*"))
    assert (scene / "full" / "mine.txt").exists()


def test_command_prints_the_report_and_the_next_command(scene, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tiles.py"])
    command = ["--scenes", "scene.tif", "--labels", "labels.gpkg", "--label-field", "class"]
    with contextlib.chdir(scene):
        tiles.command(tiles.parser().parse_args([*command, "--check"]))
        assert not (scene / "tiles").exists()
        tiles.command(tiles.parser().parse_args([*command, "--tile-size", "32"]))
    text = capsys.readouterr().out
    assert "9 tiles in 1 blocks of ground" in text
    assert text.endswith("\npython train.py --data tiles --group-by folder --void 255\n")
    assert "needs 3 blocks of ground or more. Received: 1. Use smaller blocks (`--block-t" in text
    table = (scene / "tiles" / "class_dict.csv").read_text()
    assert table == "name,id\nforest,0\nroad,1\nwater,2\n"


def test_full_disk_is_not_reported_as_a_damaged_scene(scene, monkeypatch):
    opened = rasterio.open

    def fail(path, mode="r", **options):
        if mode == "w":
            raise rasterio.errors.RasterioIOError("No space left on device")
        return opened(path, mode, **options)

    monkeypatch.setattr(rasterio, "open", fail)
    with pytest.raises(OSError, match="most likely because the disk is full"):
        cut_scenes([scene / "scene.tif"], labels_of(scene / "labels.gpkg"), scene / "tiles")
    assert not (scene / "tiles").exists()


def test_class_named_255_is_not_void(scene, tmp_path, capsys):
    geometries = [box(0, 0, 96, 48), box(0, 48, 96, 96), box(0, 0, 9, 9)]
    write_polygons(scene / "codes.gpkg", geometries, ["1", "255", None])
    command = ["--scenes", "scene.tif", "--labels", "codes.gpkg", "--label-field", "class"]
    with contextlib.chdir(scene):
        tiles.command(tiles.parser().parse_args([*command, "--tile-size", "32"]))
    void = capsys.readouterr().out.split("--void ")[1].strip()
    builder = prepare(scene / "tiles", tmp_path / "tfds", group_by="none", void=[void])
    assert builder.info.metadata["class_names"] == ["1", "255"]
    pixels = np.zeros(256, int)
    for split in builder.info.splits:
        for example in builder.as_dataset(split=split).as_numpy_iterator():
            pixels += np.bincount(example["segmentation_mask"].ravel(), minlength=256)
    assert pixels[:2].tolist() == [96 * 48 - 81, 96 * 48]
    assert pixels[VOID_ID] == 81


def test_scenes_in_degrees_have_no_void_borders(scene):
    ids = class_ids()
    degrees = from_origin(15, 47, 1e-5, 1e-5)
    write_scene(scene / "degrees.tif", image_of(ids), crs="EPSG:4326", transform=degrees)
    write_polygons(scene / "degrees.gpkg", *polygons_of(ids, degrees), crs="EPSG:4326")
    labels = labels_of(scene / "degrees.gpkg")
    output = scene / "tiles"
    report = cut_scenes([scene / "degrees.tif"], labels, output, tile_size=32, block_tiles=1)
    assert len(report.blocks) == 9
    assert (joined(output) == ids).mean() > 0.99


def test_near_infrared_that_is_marked_as_transparency_is_kept(scene):
    image = image_of(class_ids(), bands=4)
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write_scene(scene / "nir.tif", image, colorinterp=kinds)
    labels = labels_of(scene / "labels.gpkg")
    report = cut_scenes([scene / "nir.tif"], labels, scene / "tiles", tile_size=96)
    assert report.num_masked == report.num_void == 0
    (file,) = (scene / "tiles" / "images").glob("*/*.tif")
    with rasterio.open(file) as tile:
        np.testing.assert_array_equal(np.moveaxis(tile.read(), 0, -1), image)


def test_blue_green_red_becomes_red_green_blue(scene):
    image = image_of(class_ids())
    kinds = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    write_scene(scene / "bgr.tif", image, colorinterp=kinds)
    cut_scenes([scene / "bgr.tif"], labels_of(scene / "labels.gpkg"), scene / "tiles", tile_size=96)
    (file,) = (scene / "tiles" / "images").glob("*/*.tif")
    np.testing.assert_array_equal(np.asarray(Image.open(file)), image[..., ::-1])


def test_transparency_beside_five_bands_is_void(scene):
    image = image_of(class_ids(), bands=6, dtype=np.uint16)
    image[..., 5] = 65535
    image[:10, :, 5] = 0
    kinds = (ColorInterp.gray, *[ColorInterp.undefined] * 4, ColorInterp.alpha)
    write_scene(scene / "six.tif", image, colorinterp=kinds, photometric="minisblack")
    labels = labels_of(scene / "labels.gpkg")
    report = cut_scenes([scene / "six.tif"], labels, scene / "tiles", tile_size=96)
    assert (report.num_masked, report.num_void) == (1, 10 * SIDE)
    (file,) = (scene / "tiles" / "images").glob("*/*.tif")
    with rasterio.open(file) as tile:
        assert tile.count == 5


def far_scenes(folder):
    """Yields lists of scenes without common ground. All pixels of the scenes are labelled."""
    ids = class_ids()
    scenes = {
        "first": HALF_METER,
        "shifted": HALF_METER @ HALF_METER.translation(SIDE, 16),
        "turned": HALF_METER @ HALF_METER.translation(-2 * SIDE, 0) @ HALF_METER.rotation(30),
        "coarse": HALF_METER @ HALF_METER.translation(10 * SIDE, 0) @ HALF_METER.scale(20),
    }
    for name, transform in scenes.items():
        write_scene(folder / f"{name}.tif", image_of(ids) + len(name), transform=transform)
        yield [folder / "first.tif", *[folder / f"{name}.tif"] * (name != "first")]
    date_line = from_origin(180 - SIDE / 2 * 1e-5, 1e-5, 1e-5, 1e-5)
    write_scene(folder / "date_line.tif", image_of(ids), crs="EPSG:4326", transform=date_line)
    yield [folder / "date_line.tif"]
    # UTM zone 33 is not defined at 105 degrees east on the equator.
    write_scene(
        folder / "far.tif",
        image_of(ids),
        crs="EPSG:4326",
        transform=from_origin(105, 0, 1e-5, 1e-5),
    )
    yield [folder / "first.tif", folder / "far.tif"]


def test_all_labels_are_kept_if_scenes_do_not_overlap(tmp_path):
    halves = [shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90)]
    write_polygons(tmp_path / "halves.gpkg", halves, ["west", "east"], crs="EPSG:4326")
    for scenes in far_scenes(tmp_path):
        labels = labels_of(tmp_path / "halves.gpkg")
        report = cut_scenes(scenes, labels, None, tile_size=32, block_tiles=1)
        assert report.pixels.sum() == len(scenes) * SIDE**2, scenes
        assert report.num_removed == report.num_void == 0
        assert len(report.blocks) >= len(scenes) * 7, (scenes, report.blocks)


@pytest.mark.parametrize("names", [("fine", "coarse"), ("coarse", "fine")])
def test_labels_are_removed_only_where_another_block_shows_the_ground(tmp_path, names):
    coarse = HALF_METER @ HALF_METER.translation(-20, -52) @ HALF_METER.scale(4)
    write_scene(tmp_path / "fine.tif", image_of(class_ids()))
    write_scene(tmp_path / "coarse.tif", image_of(class_ids()), transform=coarse)
    ground = [box(-999, -999, 50, 999), box(50, -999, 999, 999)]
    write_polygons(tmp_path / "all.gpkg", ground, ["a", "b"])
    labels = labels_of(tmp_path / "all.gpkg")
    scenes = [tmp_path / f"{name}.tif" for name in names]
    report = cut_scenes(scenes, labels, tmp_path / "tiles", tile_size=32, block_tiles=1)
    assert report.pixels.sum() + report.num_removed == 2 * SIDE**2
    assert f"removed the labels of {report.num_removed} pixels, " in "\n".join(
        report_lines(report, labels)
    )
    # At most the pixels of the second scene on the ground of both scenes lose their labels.
    assert 0 < report.num_removed < SIDE**2 / (16 if names[1] == "coarse" else 1.5)
    blocks = np.full((200, 200), "", object)  # of ground, half meters
    for file in (tmp_path / "tiles" / "images").glob("*/*.tif"):
        mask = tmp_path / "tiles" / "masks" / file.parent.name / f"{file.stem}.png"
        with rasterio.open(file) as tile:
            for row, column in np.argwhere(np.asarray(Image.open(mask)) != VOID_ID):
                x, y = ~HALF_METER @ (tile.transform @ (column + 0.5, row + 0.5))
                if 0 <= x < 200 and 0 <= y < 200:
                    size = 4 if file.stem.startswith("coarse") else 1
                    left, top = round(x - size / 2), round(y - size / 2)
                    ground = blocks[max(0, top) : top + size, max(0, left) : left + size]
                    assert set(ground.ravel()) <= {"", file.parent.name}
                    ground[:] = file.parent.name


def test_overwrite_deletes_only_written_files(scene):
    output, labels = scene / "tiles", labels_of(scene / "labels.gpkg")

    def cut(file=scene / "scene.tif"):
        cut_scenes([file], labels, output, tile_size=48, overwrite=True)

    cut()
    cut()
    mask, table = output / "masks" / "block_+0_+0" / "scene_0_0.png", output / "class_dict.csv"
    for file, content in (
        (output / "images" / "photo.jpg", b"photo"),
        (mask, b"edited"),
        (table, b"name,id\nforest,0\nroad,1\nlake,2\n"),
    ):
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"1 files that tiles.py did not write, .*changed"):
            cut()
        assert file.read_bytes() == content
        shutil.rmtree(output)
        cut()
        assert (file.read_bytes() if file.exists() else None) == before
    tile = output / "images" / "block_+0_+0" / "scene_0_0.tif"
    with pytest.raises(InputError, match="must not be a folder that contains the input .*scene_0"):
        cut(tile)
    (output / "tiles.json").unlink()  # as in a data set that was not made by tiles.py
    with pytest.raises(InputError, match="9 files that tiles.py did not write"):
        cut()
    assert tile.exists()


def test_descriptions_decide_the_order_of_the_colors(scene):
    image = image_of(class_ids())
    for descriptions in (("blue", "green", "red"), ("Band 2 - Blue", "Band 3 - Green", "B4 (red)")):
        write_scene(scene / "bgr.tif", image, photometric="RGB")
        with rasterio.open(scene / "bgr.tif", "r+") as file:
            file.descriptions = descriptions
        labels = labels_of(scene / "labels.gpkg")
        cut_scenes([scene / "bgr.tif"], labels, scene / "tiles", tile_size=96, overwrite=True)
        (file,) = (scene / "tiles" / "images").glob("*/*.tif")
        np.testing.assert_array_equal(np.asarray(Image.open(file)), image[..., ::-1])
        with rasterio.open(file) as tile:
            assert find_color_bands(file, tile, None).colors == (1, 2, 3)


def test_internal_mask_beside_a_band_that_is_marked_as_transparency_is_void(scene):
    """The file has an internal mask and a near infrared band that is marked as transparency."""
    ids = class_ids()
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write_scene(scene / "near_infrared.tif", image_of(ids, 4), colorinterp=kinds)
    inside = np.full(ids.shape, 255, np.uint8)
    inside[:10] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(scene / "near_infrared.tif", "r+") as dataset,
    ):
        dataset.write_mask(inside)
        bands = TileBands.of(scene / "near_infrared.tif", dataset)
        assert bands.marked == (4,)
        window = Window(0, 0, SIDE, SIDE)
        valid = bands.valid(dataset, window, dataset.read(list(bands.numbers)))
    np.testing.assert_array_equal(valid, inside > 0)


def test_bands_marked_as_transparency_are_listed_and_their_nodata_is_void(scene):
    image = image_of(class_ids(), bands=4, dtype=np.float32)
    image[:10] = np.nan
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write_scene(scene / "nir.tif", image, colorinterp=kinds, nodata=np.nan)
    labels = labels_of(scene / "labels.gpkg")
    report = cut_scenes([scene / "nir.tif"], labels, None, tile_size=96)
    assert report.num_void == 10 * SIDE
    assert "marked as transparency, but its values are not a mask" in "\n".join(
        report_lines(report, labels)
    )


def test_class_ids_do_not_depend_on_the_order_of_the_polygons(tmp_path):
    names = ["nan", "1", "01", "5", "1.0", "-1", "inf", "b", "ä"]
    for order in (names, names[::-1], names[3:] + names[:3]):
        boxes = [box(k, 0, k + 1, 1) for k in range(len(names))]
        write_polygons(tmp_path / "codes.gpkg", boxes, order)
        labels = labels_of(tmp_path / "codes.gpkg")
        assert labels.names == ("-1", "01", "1", "1.0", "5", "b", "inf", "nan", "ä")


def test_background_is_one_line_of_text(scene):
    areas = Zones(write_polygons(scene / "areas.gpkg", [box(0, 0, 9, 9)], ["x"]))
    labels = labels_of(scene / "labels.gpkg", areas=areas, background=" bare\nground ")
    assert labels.names == ("bare ground", *NAMES)
    with pytest.raises(InputError, match="`background` must be the name of a class"):
        labels_of(scene / "labels.gpkg", areas=areas, background=" ")


def test_class_names_are_utf8_in_every_locale(scene):
    write_polygons(scene / "names.gpkg", *[[box(0, 0, 9, 9), box(9, 0, 20, 9)], ["ä", "日本"]])
    command = [sys.executable, ROOT / "tiles.py", "--scenes", "scene.tif", "--labels", "names.gpkg"]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": ROOT}
    done = subprocess.run(
        [*command, "--label-field", "class"],
        cwd=scene,
        env={**os.environ, **locale},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert r"\xe4" in done.stdout
    table = (scene / "tiles" / "class_dict.csv").read_text(encoding="utf-8")
    assert table == "name,id\nä,0\n日本,1\n"
