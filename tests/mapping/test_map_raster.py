import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image

from lcc_tf.errors import InputError
from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.map_raster import new_raster, read_map
from tests.mapping.scenes import HALF_METER, write_class_map
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def test_tif_map_is_a_cloud_optimized_geotiff(tmp_path):
    ids = np.random.default_rng(0).integers(0, 7, (700, 1300), np.uint8)
    ids[:100] = 255
    ids[400:, ::2], ids[400:, 1::2] = 1, 4
    write_class_map(tmp_path / "a.tif", ids, classes=DEEPGLOBE_CLASSES, nodata=255)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2, 4]
        assert (dataset.nodata, dataset.crs.to_epsg()) == (255, 32633)
        assert dataset.transform == HALF_METER
        np.testing.assert_array_equal(dataset.read(1), ids)
        for class_id, rgb in enumerate(DEEPGLOBE_CLASSES.palette):
            assert dataset.colormap(1)[class_id] == (*rgb, 255)
        assert dataset.colormap(1)[255][3] == 0
        # Each overview pixel has the most frequent class. A mean of classes 1 and 4 would be wrong.
        assert set(np.unique(dataset.read(1, out_shape=(350, 650))[200:])) <= {1, 4}
    sidecar = (tmp_path / "a.tif.aux.xml").read_text()
    assert [sidecar.index(name) for name in DEEPGLOBE_CLASSES.names] == sorted(
        sidecar.index(name) for name in DEEPGLOBE_CLASSES.names
    )
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["a.qml", "a.tif", "a.tif.aux.xml"]
    small, valid = read_map(tmp_path / "a.tif", (7, 13))
    assert small.shape == (7, 13)
    np.testing.assert_array_equal(valid, small != 255)


def test_png_map_has_the_colors_of_the_classes(tmp_path):
    ids = np.random.default_rng(0).integers(0, 7, (30, 40), np.uint8)
    write_class_map(tmp_path / "a.png", ids, classes=DEEPGLOBE_CLASSES)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(
            np.array(picture.convert("RGB")), DEEPGLOBE_CLASSES.colorize(ids)
        )
    ids[:10] = 255
    write_class_map(tmp_path / "b.png", ids, classes=DEEPGLOBE_CLASSES, nodata=255)
    with Image.open(tmp_path / "b.png") as picture:
        alpha = np.array(picture.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha, np.where(ids == 255, 0, 255))


def test_raster_contains_the_scale_of_stored_fractions(tmp_path):
    grid = Grid(20, 30, rasterio.CRS.from_epsg(32633), HALF_METER)
    with new_raster(tmp_path / "a.tif", grid, band_names=("x", "y"), scale=1 / 254) as dataset:
        dataset.write(np.full((2, 20, 30), 127, np.uint8))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == ("x", "y")
        np.testing.assert_allclose(dataset.read(1) * dataset.scales[0], 0.5)


def test_interrupted_raster_leaves_no_files(tmp_path):
    grid = Grid(20, 30, None, rasterio.Affine.identity())
    with (
        pytest.raises(KeyboardInterrupt),
        new_raster(tmp_path / "a.tif", grid, classes=DEEPGLOBE_CLASSES),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_write_one_map(tmp_path):
    grid = Grid(20, 30, None, rasterio.Affine.identity())
    with new_raster(tmp_path / "a.tif", grid) as dataset:
        with (
            pytest.raises(InputError, match="Another process is writing .*a.tif"),
            new_raster(tmp_path / "a.tif", grid),
        ):
            pass
        dataset.write(np.full((20, 30), 3, np.uint8), 1)
    assert (read_map(tmp_path / "a.tif", (20, 30))[0] == 3).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


# This program writes rasters. A limit of the file size has the same effect as a full disk.
WRITER = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.map_raster import new_raster
import rasterio
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
values = np.random.default_rng(0).integers(0, 256, (1, 1024, 1024), np.uint8)
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    path = Path(sys.argv[1]) / f"{limit}.tif"
    try:
        grid = Grid(1024, 1024, None, rasterio.Affine.identity())
        with new_raster(path, grid) as dataset:
            dataset.write(values)
        with rasterio.open(path) as dataset:
            print("complete", (dataset.read() == values).all())
    except OSError as error:
        print(error)
"""


def test_full_disk_raises(tmp_path):
    # The first limit is too small for the temporary file. The second limit is too small for the
    # final file with overviews. The third limit is large enough for both files.
    limits = (100_000, 1_150_000, 10_000_000)
    result = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), *map(str, limits)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert lines[2:] == ["complete True"]
    for limit, line in zip(limits[:2], lines, strict=False):
        assert f"{limit}.tif cannot be written, most likely because the disk is full" in line
    assert {file.name for file in tmp_path.iterdir()} <= {
        *("10000000.tif", "10000000.tif.aux.xml", "10000000.qml"),
    }


def test_raster_that_is_larger_than_the_free_disk_space_raises(tmp_path):
    grid = Grid(10_000_000, 10_000_000, None, rasterio.Affine.identity())
    with (
        pytest.raises(OSError, match="needs up to 150TB of disk space, but only .*B are free"),
        new_raster(tmp_path / "a.tif", grid),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
