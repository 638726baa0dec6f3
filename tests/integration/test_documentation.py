"""Runs every code block of the documentation that is not marked as not run.

The blocks of a page run in order, in a folder with the files that they name. Trainings use the
encoder "tiny", 64x64 pixels and one epoch. tests/test_migration.py runs
docs/migration.md.
"""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import safetensors.numpy
import shapely
import tensorflow as tf
from PIL import Image

import lcc_tf
from lcc_tf.data.demo import write_demo_archive
from lcc_tf.data.demo_scenes import render_scene
from lcc_tf.models import ARCHITECTURES
from tests.mapping.scenes import write_scene
from tests.models.test_torch_weights import stored
from tests.untrained_runs import smallest_network, write_untrained_run
from tfds_deepglobe.__main__ import main as data_main
from tfds_deepglobe.fake_archive import zip_folder

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tfds_deepglobe/*.md"))
    if page.name != "migration.md"
)
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
# The networks of the documentation need downloads, or minutes on a CPU. The export of UNet++ to
# ONNX would take most of the time of all pages; `other` is a small network.
SMALL = {
    '"resnet50", encoder_weights="imagenet"': '"tiny", encoder_weights=None',
    "resnet101": "resnet18",
    "tile=512": "tile=64",
    'export(both, "exported"': 'export(other, "exported", tile=64',
    "epochs=50": "epochs=1",
}
SMALL_TRAINING = {
    "--encoder": "tiny",
    "--encoder-weights": "none",
    "--image-size": "64",
    "--batch-size": "8",  # one step per epoch
    "--epochs": "1",
    "--learning-rate": "1e-2",
    "--crops-per-image": "1",
}


def code_blocks(page):
    """Returns language and code of the blocks that run."""
    return [
        (language, code)
        for mark, language, code in BLOCK.findall((ROOT / page).read_text())
        if not mark
    ]


def scene(index, size=64):
    return render_scene(0, index, size)


def batches(first, count):
    images, masks = (
        np.stack(arrays) for arrays in zip(*map(scene, range(first, first + count)), strict=True)
    )
    masks = masks.astype(np.uint8)
    masks[:, :3] = 255  # pixels without a class
    return tf.data.Dataset.from_tensor_slices((images.astype(np.float32), masks)).batch(4)


def run_command(line):
    """Runs one command in this process, where the encoder "tiny" is known."""
    python, *arguments = shlex.split(line)
    assert python == "python"
    if arguments[:2] == ["-m", "tfds_deepglobe"]:
        assert data_main(arguments[2:]) == 0
        return
    name = arguments[0].removesuffix(".py")
    module = importlib.import_module(f"lcc_tf.cli.{name}")
    if name == "train":
        for option, value in SMALL_TRAINING.items():
            if option not in arguments:
                arguments += [option, value]
    assert not module.command(module.parser().parse_args(arguments[1:]))


def run_page(page, names, languages=("bash", "python")):
    """Runs the blocks of a page; Python blocks share `names`."""
    for language, code in code_blocks(page):
        assert language in ("bash", "python", "text"), f"{page}: name the language of:\n{code}"
        if language not in languages:
            continue
        for full_size, small in SMALL.items():
            code = code.replace(full_size, small)
        if language == "python":
            exec(compile(code, page, "exec"), names)
            continue
        for line in code.replace("\\\n", "").splitlines():
            if line.split("#")[0].strip():
                run_command(line.split("#")[0])


def write_zones(file):
    pyogrio.raw.write(
        file,
        geometry=shapely.to_wkb([shapely.box(500000, 5199970, 500020, 5200000)]),
        field_data=[np.array(["field"], object)],
        fields=["name"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        driver="GPKG",
    )


def write_own_data(root):
    """Writes GeoTIFF images and palette masks of two classes."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for index in range(12):
        image, mask = scene(index)
        write_scene(root / "images" / f"{index}.tif", image)
        two_classes = Image.fromarray((mask > 2).astype(np.uint8), "P")
        two_classes.putpalette([0, 0, 0, 9, 200, 9])
        two_classes.save(root / "labels" / f"{index}_gt.png")
    (root / "class_dict.csv").write_text("name,r,g,b\nother,0,0,0\nplants,9,200,9\n")


def write_torch_weights(folder):
    """Writes two files: the weights of a network of smp, and the weights of its encoder."""
    weights, _ = stored("unetpp", None)
    safetensors.numpy.save_file(weights, folder / "best.safetensors")
    encoder = {
        name.removeprefix("encoder."): value
        for name, value in weights.items()
        if name.startswith("encoder.")
    }
    safetensors.numpy.save_file(encoder, folder / "resnet18.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch, eagerly):
    """The working directory of a page, with images and a data set."""
    monkeypatch.chdir(tmp_path)
    write_demo_archive(tmp_path / "data" / "deepglobe", count=12, size=64)
    write_scene(tmp_path / "scene.tif", scene(100, 100)[0][:, :90])
    Image.fromarray(scene(101, 70)[0]).save(tmp_path / "photo.jpg")
    Image.fromarray(scene(101, 64)[0]).save(tmp_path / "tile.png")
    return tmp_path


def assert_written(*files):
    missing = [file for file in files if not list(Path().glob(file))]
    assert not missing


def test_every_page_has_a_test():
    tested = re.findall(r'run_page\("(.+?)"', Path(__file__).read_text())
    assert {page for page in PAGES if code_blocks(page)} <= set(tested)


def test_readme_in_python(folder):
    names = {
        "training": batches(0, 8),
        "validation": batches(8, 4),
        "other": smallest_network(7),
        "image": scene(100, 150)[0],
    }
    run_page("README.md", names, languages=["python"])
    assert names["probabilities"].shape == (150, 150, 7)
    np.testing.assert_allclose(names["probabilities"].sum(axis=-1), 1, atol=1e-5)
    assert_written("maps/scene_classes.tif", "exported/onnx/model.onnx")


def test_readme_on_the_command_line(folder, smallest_networks):
    run_page("README.md", {}, languages=["bash"])
    assert_written(
        "results/metrics.json", "exported/savedmodel/saved_model.pb", "maps/scene_classes.tif"
    )


def test_training(folder, smallest_networks):
    run_page("docs/training.md", {})
    assert_written("runs/original/curves.png", "runs/unetpp/tensorboard")


def test_own_data(folder, smallest_networks):
    write_own_data(folder / "mine")
    run_page("docs/own_data.md", {})
    assert_written("results/metrics.json")


def test_bands(folder):
    names = {}
    run_page("docs/bands.md", names)
    assert names["model"].input_shape[-1] == 4


def test_pytorch_weights(folder, monkeypatch):
    # The weights belong to the real network, which `smallest_networks` may have replaced.
    monkeypatch.setitem(ARCHITECTURES, "unetpp", lcc_tf.models.UNetPlusPlus)
    write_torch_weights(folder)
    names = {}
    run_page("docs/pytorch_weights.md", names)
    assert_written("runs/from_torch/best.weights.h5", "results/metrics.json", "runs/unetpp")
    assert names["model"].count_params() > 1e7


def test_protocols(folder):
    image, mask = scene(0)
    model, other = (
        lcc_tf.models.DeepLabV3Plus(7, encoder="tiny", encoder_weights=None) for _ in range(2)
    )
    names = {"model": model, "other": other, "image": image, "mask": mask}
    run_page("docs/protocols.md", names)
    assert 0 <= names["evaluation"].scores["glnet"]["ensemble"]["mean_iou"] <= 1


def test_data_set(folder):
    zip_folder(folder / "data" / "deepglobe", folder / "archive.zip")
    write_own_data(folder / "mine")
    zip_folder(folder / "mine", folder / "mine.zip")
    names = {}
    run_page("tfds_deepglobe/README.md", names)
    assert len(names["builder"].info.metadata["palette"]) == 7


@pytest.fixture(scope="module")
def exported(smallest_networks, tiny_config, builder, tmp_path_factory):
    """A folder with two untrained runs and the exports of docs/exporting.md."""
    folder = tmp_path_factory.mktemp("exported")
    for arch in ("unetpp", "deeplabv3plus"):
        write_untrained_run(folder / "runs" / arch, tiny_config, builder, arch=arch)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_page("docs/exporting.md", {}, languages=["bash"])
    return folder


def test_exporting(folder, exported):
    (folder / "exported").symlink_to(exported / "exported")
    names = {}
    run_page("docs/exporting.md", names, languages=["python"])
    assert names["class_id"].shape == (64, 64)


def test_maps(folder, exported):
    for name in ("runs", "exported"):
        (folder / name).symlink_to(exported / name)
    (folder / "scenes").mkdir()
    shutil.copy("scene.tif", "scenes/first.tif")
    write_zones(folder / "parcels.gpkg")
    run_page("docs/maps.md", {})
    assert_written("maps/scene_areas.csv", "more_maps/first_zones.csv", "maps/photo_classes.png")
