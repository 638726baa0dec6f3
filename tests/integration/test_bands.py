"""Runs all commands on images with five bands of 16 bits. Only the fifth band shows a class."""

import contextlib
import importlib
import json
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from lcc_tf.runs import read_run

SIDE, COUNT = 64, 24
NAMES = ("blue", "green", "red", "nir", "thermal")
# Values of the fifth band outside and inside warm areas
COLD, WARM = 5000, 9000


def run(script, *arguments):
    """Runs a command in this process, because only this process has the small networks."""
    module = importlib.import_module(f"lcc_tf.cli.{script}")
    return module.command(module.parser().parse_args(list(map(str, arguments))))


def render(seed):
    """Returns an image, uint16 `(SIDE, SIDE, 5)`, and its mask: 0 land, 1 water, 2 warm land."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    water = rows + rng.integers(-10, 10) > columns * rng.uniform(0.5, 2)
    top, left = rng.integers(0, SIDE // 2, 2)
    warm = np.zeros((SIDE, SIDE), bool)
    warm[top : top + SIDE // 2, left : left + SIDE // 2] = True
    warm &= ~water
    image = np.where(water[..., None], [3000, 2000, 1000, 500, 0], [1000, 2000, 2500, 4000, 0])
    image[..., 4] = np.where(warm, WARM, COLD)
    noise = rng.normal(0, 200, image.shape)
    return (image + noise).clip(0).astype(np.uint16), np.where(warm, 2, water).astype(np.uint8)


def write_image(file, image):
    height, width, count = image.shape
    options = {"driver": "GTiff", "height": height, "width": width, "count": count}
    options |= {"crs": "EPSG:32633", "transform": from_origin(500000, 5200000, 10, 10)}
    with rasterio.open(file, "w", dtype=image.dtype, **options) as dataset:
        dataset.write(np.moveaxis(image, -1, 0))
        dataset.descriptions = NAMES[: image.shape[-1]]


@pytest.fixture(scope="module")
def project(tmp_path_factory, small_networks):
    """Returns a folder with the archive, and a run with all bands and a run with three bands."""
    folder = tmp_path_factory.mktemp("bands")
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for index in range(COUNT):
        image, mask = render(index)
        write_image(folder / "data" / "images" / f"{index}.tif", image)
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{index}.png")
    (folder / "data" / "class_dict.csv").write_text("name,id\nland,0\nwater,1\nwarm,2\n")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setattr("lcc_tf.scoring.panels.MAX_PANELS", 1)
        options = (
            "--data",
            "data",
            "--arch",
            "unetpp",
            "--encoder",
            "tiny",
            "--encoder-weights",
        )
        options += ("none", "--image-size", "64", "--batch-size", "8", "--epochs", "10")
        options += ("--learning-rate", "1e-2", "--crops-per-image", "2")
        run("train", *options, "--workdir", "runs/five")
        run("train", *options, "--bands", "3,2,1", "--workdir", "runs/three")
        yield folder


def test_a_class_of_the_fifth_band_is_found(project):
    options = ("--protocol", "glnet", "--split", "train", "--color-baseline")
    ious = {}
    for name in ("five", "three"):
        run("evaluate", "--runs", f"runs/{name}", *options, "--output", name)
        content = json.loads((project / name / "metrics.json").read_text())
        ious[name] = content["members"][name]["mean_iou"]
        assert content["color_baseline"]["iou"]["warm"] < 0.2  # the baseline uses only the colors
    assert ious["five"] > ious["three"] + 0.2
    panels = [project / name / "panels" / "train_00.png" for name in ("five", "three")]
    pictures = [np.asarray(Image.open(panel).convert("RGB")) for panel in panels]
    left = [picture[:, : picture.shape[1] // 4] for picture in pictures]  # the images
    assert np.abs(left[0].astype(int) - left[1]).mean() < 5  # both show red, green and blue


def test_run_contains_the_bands(project):
    five, three = (read_run(project / "runs" / name).bands for name in ("five", "three"))
    assert (five.names, five.numbers) == (NAMES, (1, 2, 3, 4, 5))
    assert (three.names, three.numbers) == (("red", "green", "blue"), (3, 2, 1))
    low, high = five.ranges[4]
    assert low < COLD < WARM < high


def read_map(file):
    with rasterio.open(file) as dataset:
        return dataset.read(1)


def test_maps_find_the_bands_by_their_names(project, tmp_path):
    image, mask = render(0)
    write_image(tmp_path / "same.tif", image)
    order = [4, 2, 0, 3, 1]
    with rasterio.open(tmp_path / "same.tif") as dataset:
        profile = dataset.profile
    with rasterio.open(tmp_path / "other.tif", "w", **profile) as dataset:
        dataset.write(np.moveaxis(image[..., order], -1, 0))
        dataset.descriptions = [NAMES[i] for i in order]
    inputs = [tmp_path / "same.tif", tmp_path / "other.tif"]
    output = tmp_path / "maps"
    run(
        "predict",
        "--runs",
        "runs/five",
        "--input",
        *inputs,
        "--output",
        output,
        "--extras",
        "overlay",
    )
    maps = [read_map(output / f"{name}_classes.tif") for name in ("same", "other")]
    np.testing.assert_array_equal(*maps)
    assert (maps[0] == mask).mean() > 0.8
    assert Image.open(output / "same_overlay.png").size[0] > SIDE


def test_dark_and_missing_parts_do_not_change_the_rest_of_a_map(project, tmp_path):
    image = np.concatenate([render(seed)[0] for seed in range(4)], axis=1).astype(np.float32)
    changed = image.copy()
    changed[:, 3 * SIDE :] /= 10
    changed[:10, :10] = np.nan
    for name, values in (("whole", image), ("changed", changed)):
        write_image(tmp_path / f"{name}.tif", values)
    inputs = [tmp_path / "whole.tif", tmp_path / "changed.tif"]
    run("predict", "--runs", "runs/five", "--input", *inputs, "--output", tmp_path / "maps")
    whole, other = (read_map(tmp_path / "maps" / f"{i.stem}_classes.tif") for i in inputs)
    assert (other[:10, :10] == 255).all()
    np.testing.assert_array_equal(whole[:, SIDE : 2 * SIDE], other[:, SIDE : 2 * SIDE])
    assert (whole[:, 3 * SIDE :] != other[:, 3 * SIDE :]).any()


def test_exported_network_has_the_same_map(project, tmp_path, capsys):
    output = tmp_path / "exported"
    assert run("export", "--runs", "runs/five", "--output", output) == 0
    assert "images of data/tfds" in capsys.readouterr().out
    description = output / "savedmodel" / "assets.extra" / "model.json"
    assert json.loads(description.read_text())["bands"]["names"] == list(NAMES)
    scene = project / "data" / "images" / "0.tif"
    for source in (("--runs", "runs/five"), ("--model", output / "savedmodel")):
        folder = tmp_path / source[0][2:]
        run("predict", *source, "--input", scene, "--output", folder)
    maps = [read_map(tmp_path / name / "0_classes.tif") for name in ("runs", "model")]
    assert (maps[0] == maps[1]).mean() > 0.999


def test_evaluation_of_images_in_another_unit_prints_a_warning(project, tmp_path, capsys):
    shutil.copytree(project / "data", tmp_path / "data")
    for file in (tmp_path / "data" / "images").iterdir():
        with rasterio.open(file) as dataset:
            image = np.moveaxis(dataset.read(), 0, -1)
        write_image(file, image.astype(np.float32) / 10000)
    options = ("--runs", "runs/five", "--protocol", "glnet", "--output", tmp_path / "results")
    run("evaluate", *options, "--data", tmp_path / "data")
    printed = capsys.readouterr().out
    assert "test images: warning: 100 % of the values of band" in printed
    assert "the dtype is float32, but the training images have the dtype uint16" in printed
