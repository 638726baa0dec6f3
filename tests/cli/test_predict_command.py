import os
import shutil
from pathlib import Path

import pytest

import lcc_tf
from lcc_tf.cli import predict
from lcc_tf.mapping.beam_parts import WORK_FOLDER
from tests.untrained_runs import small_unet


@pytest.fixture
def arguments(runs, demo_data, tmp_path, monkeypatch):
    """Returns arguments to map a folder with two images and a broken file."""
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    for image in sorted(Path(demo_data.cache_dir).glob("demo_*/**/*_sat.jpg"))[:2]:
        shutil.copy(image, "scenes")
    Path("scenes/broken.tif").write_text("no image")
    run = runs / "deeplabv3plus"
    return ("--runs", run, "--input", "scenes", "--extras", "overlay", "--tta", "flip")


def test_broken_image_is_reported_and_all_other_images_are_mapped_once(arguments, run, refuse):
    code, output, error = run("predict", *arguments)
    assert code == 1
    assert "2 of 3 images mapped" in output
    assert error.count("error: ") == 1
    assert "broken.tif cannot be read" in error
    assert len(list(Path("maps").glob("*_classes.png"))) == 2
    assert len(list(Path("maps").glob("*_overlay.png"))) == 2

    code, _, error = run("predict", *arguments, "--output", "other", "--polygons", "geojson")
    assert code == 1
    assert "`--polygons geojson` needs an image with a known position" in error

    error = refuse("predict", *arguments)
    assert "already exists" in error
    assert "--resume" in error

    Path("scenes/broken.tif").unlink()
    shutil.copy(next(Path("scenes").iterdir()), "scenes/third.jpg")
    code, output, _ = run("predict", *arguments, "--resume")
    assert code == 0
    assert "1 of 1 images mapped to maps; 2 were already mapped" in output

    code, output, _ = run("predict", *arguments, "--resume")
    assert code == 0
    assert "all 3 images are already mapped" in output


ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"


@pytest.mark.parametrize(
    ("megabytes", "tile", "value"),
    [((50, 60), 1024, "1"), ((50, 60), 512, None), ((50, 40), 1024, None), ((), 1024, None)],
)
def test_large_networks_and_tiles_return_unused_memory(
    megabytes, tile, value, tmp_path, monkeypatch
):
    monkeypatch.setenv(ALLOCATOR, "0")
    files = [tmp_path / str(number) for number, _ in enumerate(megabytes)]
    for path, size in zip(files, megabytes, strict=True):
        with path.open("wb") as file:
            file.truncate(size * 10**6)  # takes no space on the disk
    predict.limit_memory(files, tile)
    assert os.environ[ALLOCATOR] == "0"  # the value of the user
    monkeypatch.delenv(ALLOCATOR)
    predict.limit_memory(files, tile)
    assert os.environ.get(ALLOCATOR) == value


@pytest.mark.heavy
def test_two_beam_processes_write_the_local_maps(demo_data, run, refuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lcc_tf.export(small_unet(7), "model", format="savedmodel", classes=lcc_tf.DEEPGLOBE_CLASSES)
    image = next(Path(demo_data.cache_dir).glob("demo_*/**/*_sat.jpg"))
    mapped = (
        "--model",
        "model/savedmodel",
        "--input",
        image,
        "--tile",
        "32",
        "--extras",
        "probabilities",
    )
    beam = ("--beam-runner", "DirectRunner")
    error = refuse("predict", *mapped, *beam, "--beam-options", "direct_workers=2")
    assert "`--beam-options` must be options of DirectRunner. Received: direct_workers" in error
    assert "`--beam-runner NoRunner`" in refuse("predict", *mapped, "--beam-runner", "NoRunner")

    processes = ("direct_running_mode=multi_processing", "direct_num_workers=2")
    assert run("predict", *mapped, "--output", "local")[0] == 0
    monkeypatch.setattr("lcc_tf.mapping.beam_parts.ROWS_PER_PART", 2)  # two parts
    assert run("predict", *mapped, "--output", "beam", *beam, "--beam-options", *processes)[0] == 0
    names = sorted(file.name for file in Path("local").iterdir())
    assert sorted(file.name for file in Path("beam").iterdir()) == names
    for name in names:
        assert Path("beam", name).read_bytes() == Path("local", name).read_bytes()

    # A call that was killed leaves its parts. The same command then continues, without `--resume`.
    Path("beam", WORK_FOLDER).mkdir()
    code, output, _ = run("predict", *mapped, "--output", "beam", *beam)
    assert code == 0
    assert "all 1 images are already mapped" in output
    assert not Path("beam", WORK_FOLDER).exists()
    assert "already exist" in refuse("predict", *mapped, "--output", "beam", *beam)
