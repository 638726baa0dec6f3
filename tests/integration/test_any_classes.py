"""Runs all commands on an archive with user-defined classes, colors, file names and image sizes."""

import csv
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tensorflow as tf
from PIL import Image

from lcc_tf.data.demo_scenes import render_scene
from lcc_tf.runs import read_run
from lcc_tf.scoring.evaluate_runs import open_dataset
from tfds_deepglobe.__main__ import main as tfds_main
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.fake_archive import zip_folder

CLASSES = ClassTable(
    ("building", "land (unpaved)", "road", "vegetation", "water", "unlabeled"),
    (
        *((60, 16, 152), (132, 41, 246), (110, 193, 228)),
        *((254, 221, 58), (226, 169, 41), (155, 155, 155)),
    ),
)
# Image sizes of a published data set, divided by 13. The networks are trained on images of 64x64
# pixels.
SIZES = [(39, 42), (61, 49), (52, 51), (84, 65), (87, 81), (140, 158), (158, 140), (42, 39)]
NAMES = ("--image-glob", "images/*.tif", "--mask-pattern", "labels/*_gt.png")
DATA = ("--data", "mine.zip", *NAMES)


def run(script, *arguments, eagerly=True):
    """Runs a command in this process, because only this process has the small networks.

    For a few batches, eager mode is faster than building a graph.
    """
    module = importlib.import_module(f"lcc_tf.cli.{script}")
    options = module.parser().parse_args(list(map(str, arguments)))
    tf.config.run_functions_eagerly(eagerly)
    try:
        module.command(options)
    finally:
        tf.config.run_functions_eagerly(False)


def write_archive(root):
    """Writes scenes with palette masks. The order of colors differs from the class table."""
    order = [3, 0, 5, 1, 4, 2]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        height, width = SIZES[i % len(SIZES)]
        image, mask = (array[:height, :width] for array in render_scene(1, i, 158))
        Image.fromarray(image).save(root / "images" / f"tile_{i}.tif", compression="tiff_lzw")
        indices = np.argsort(order).astype(np.uint8)[np.minimum(mask, 5)]
        indexed = Image.fromarray(indices, "P")
        indexed.putpalette([channel for k in order for channel in CLASSES.palette[k]])
        indexed.save(root / "labels" / f"tile_{i}_gt.png")
    named = zip(CLASSES.names, CLASSES.palette, strict=True)
    rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in named]
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))


@pytest.fixture(scope="module")
def project(tmp_path_factory, smallest_networks):
    """Returns a folder with a zipped archive and two runs.

    The first network was trained on crops, and the second network on whole images.
    """
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_archive(folder / "mine")
        zip_folder(folder / "mine", folder / "mine.zip", top="mine/")
        small = ("--encoder", "tiny", "--encoder-weights", "none", "--image-size", "64")
        small += ("--batch-size", "8", "--epochs", "1", "--learning-rate", "1e-2")
        run("train", "--arch", "unetpp", *DATA, *small, "--crops-per-image", "1")
        whole = ("--framing", "whole", "--class-weights", "median_frequency")
        run("train", "--arch", "deeplabv3plus", *DATA, *small, *whole)
        yield folder


def ground_truth(project):
    """Reads the class ids of each image from the colors of its mask."""
    masks = {}
    for file in (project / "mine" / "labels").iterdir():
        with Image.open(file) as mask:
            masks[file.name.removesuffix("_gt.png")] = CLASSES.encode(
                np.asarray(mask.convert("RGB"))
            )
    return masks


def test_archive_is_checked_and_prepared(project, capsys):
    assert tfds_main(["check", *DATA]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"mine.zip: 12 images with masks, 6 classes; no faults", lines[0])
    assert "masks: labels/*_gt.png" in lines[1]
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in ground_truth(project).values()]))
    for i, fraction in enumerate(pixels / pixels.sum()):
        assert lines[3 + i].startswith(f"  {i}  {CLASSES.names[i]}")
        assert f"{fraction:.2%} of pixels" in lines[3 + i]
    # The training has already prepared the same data set.
    assert tfds_main(["prepare", "--data", "mine", *NAMES]) == 0
    assert "already prepared" in capsys.readouterr().out


def test_config_of_a_run_contains_classes_file_names_and_size(project):
    for arch in ("unetpp", "deeplabv3plus"):
        content = json.loads((project / "runs" / arch / "config.json").read_text())
        assert tuple(content["class_names"]) == CLASSES.names
        assert tuple(map(tuple, content["palette"])) == CLASSES.palette
        assert content["config"]["data"]["mask_pattern"] == "labels/*_gt.png"
        assert min(map(min, SIZES)) < content["native_size"] < max(map(max, SIZES))


def test_every_protocol_scores_user_defined_classes(project, capsys):
    run("evaluate", "--ensemble", "--protocol", "all", "--split", "train", "--color-baseline")
    assert "building" in capsys.readouterr().out
    content = json.loads((project / "results" / "metrics.json").read_text())
    for name, part in content["protocols"].items():
        assert part["class_names"] == list(CLASSES.names)
        assert "the classes are not the classes of DeepGlobe" in part["comparable_with"]
        matrix = np.array(part["ensemble"]["confusion_matrix"])
        assert matrix.shape == (6, 6)
        if name == "original":
            assert matrix.sum() == content["num_images"] * 512**2
    official6, glnet = (content["protocols"][name] for name in ("official6", "glnet"))
    assert official6["ensemble"] == glnet["ensemble"]  # no class is named unknown
    # The protocol glnet counts all pixels of the masks in full size.
    actual = np.array(glnet["members"]["unetpp"]["confusion_matrix"]).sum(axis=1)
    builder = open_dataset([read_run(Path("runs/unetpp"))])
    ids = [e["id"].numpy().decode() for e in builder.as_dataset(split="train")]
    masks = ground_truth(project)
    pixels = sum(np.bincount(masks[i].ravel(), minlength=6) for i in ids)
    np.testing.assert_array_equal(actual, pixels)

    panels = sorted((project / "results" / "panels").iterdir())
    assert len(panels) == 6
    colors = set()
    for file in panels:
        with Image.open(file) as panel:
            found = panel.convert("RGB").getcolors(panel.width * panel.height)
            colors |= {rgb for count, rgb in found if count > 1000}  # the legend has fewer pixels
    assert set(CLASSES.palette) <= colors


def test_exported_model_contains_names_and_colors_of_the_classes(project):
    run("export", "--runs", "runs/deeplabv3plus", "--format", "savedmodel", eagerly=False)
    model = tf.saved_model.load(str(project / "exported" / "savedmodel"))
    classes = model.signatures["classes"]()
    assert [name.decode() for name in classes["class_names"].numpy()] == list(CLASSES.names)
    assert tuple(map(tuple, classes["palette"].numpy().tolist())) == CLASSES.palette
    with Image.open(project / "mine" / "images" / "tile_1.tif") as scene:
        image = tf.constant(np.asarray(scene))[None]
    result = model.signatures["serving_default"](image=image)
    assert result["probabilities"].shape == (1, 61, 49, 6)
    assert int(tf.reduce_max(result["class_id"])) < 6


def test_maps_contain_names_and_colors_of_the_classes(project):
    run(
        "predict",
        *("--runs", "runs/deeplabv3plus", "--input", "mine/images/tile_5.tif"),
        *("--extras", "overlay"),
    )
    with rasterio.open(project / "maps" / "tile_5_classes.tif") as classes:
        ids, colors = classes.read(1), classes.colormap(1)
    assert ids.shape == (140, 158)
    assert ids.max() < 6
    assert tuple(colors[i][:3] for i in range(6)) == CLASSES.palette
    with (project / "maps" / "tile_5_areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows][:6] == list(CLASSES.names)
    assert (project / "maps" / "tile_5_overlay.png").is_file()
