"""Tests inputs that cannot be used: a command prints one line of error and writes no files."""

from pathlib import Path

import keras
import pytest

from tests.mapping.scenes import noise, write_scene

SMALL = ("--encoder", "tiny", "--encoder-weights", "none", "--image-size", "64")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def demo(demo_data):
    return (
        *("--data", "demo", "--cache-dir", demo_data.cache_dir),
        *("--demo-count", demo_data.demo_count, "--demo-size", demo_data.demo_size),
    )


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ((), ("data/deepglobe", "kaggle.com", "--data demo")),
        (("--arch", "unet3"), ("'unet3'", "unetpp")),
        (("--image-size", "100"), ("image_size=100", "Use 96")),
        (
            ("--recipe", "seed"),
            ("Unknown `--recipe`. Received: 'seed'. Choose one of ['default', 'original'].",),
        ),
        (("--data", "demo", "--demo-count", "2"), ("`--demo-count` must be 3",)),
    ],
)
def test_invalid_training_options_are_errors(refuse, arguments, texts):
    error = refuse("train", *arguments)
    for text in texts:
        assert text in error


def test_batch_larger_than_the_training_split_is_an_error(refuse, demo):
    error = refuse("train", *demo, *SMALL, "--batch-size", "99", "--crops-per-image", "1")
    assert "fewer than one batch" in error
    assert "batch_size=99" in error


def test_imagenet_weights_that_do_not_exist_are_an_error(refuse, demo):
    encoder = ("--encoder", "resnet18_v1.5", "--encoder-weights", "imagenet")
    error = refuse("train", *demo, *SMALL, *encoder)
    assert "resnet18_v1.5" in error
    assert "weights none`" in error
    assert "path as `--encoder-weights" in error


@pytest.mark.parametrize(
    ("command", "arguments", "texts"),
    [
        ("evaluate", ("--ensemble",), ("runs contains no trained run", "train.py")),
        ("evaluate", ("--runs", "nowhere"), ("nowhere is not a run folder",)),
        ("predict", ("--input", "nowhere.tif"), ("'nowhere.tif', which matches no image",)),
        ("export", ("--runs", "nowhere"), ("nowhere is not a run folder",)),
    ],
)
def test_missing_input_is_an_error(refuse, command, arguments, texts):
    error = refuse(command, *arguments)
    for text in texts:
        assert text in error


@pytest.mark.parametrize(
    ("command", "file", "texts"),
    [
        ("train", "runs/unetpp/config.json", ("runs/unetpp is not empty", "`--resume`")),
        ("evaluate", "results/metrics.json", ("results already exists", "`--overwrite`")),
        (
            "export",
            "exported/savedmodel/saved_model.pb",
            ("exported/savedmodel already exists", "`--overwrite`"),
        ),
    ],
)
def test_existing_output_is_an_error(refuse, command, file, texts):
    Path(file).parent.mkdir(parents=True)
    Path(file).touch()
    error = refuse(command)
    for text in texts:
        assert text in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--bands", "0,1,2"), "`--bands` must be the numbers of the red, green and blue band"),
        (("--bands", "a,b,c"), "such as 3,2,1, or of the bands of the network. The first band is"),
        (("--bands", ""), "Received: bands=."),
        (("--scale", "5,5"), "`--scale` must be minmax, percentile, or a range of values"),
        (("--scale", "max"), "such as 0,3000. Received: scale=max."),
        (("--scale", "0,inf"), "Received: scale=0.0,inf."),
        (("--zones", "gone.gpkg"), "gone.gpkg cannot be read as polygons"),
        (("--model", "gone", "--member-weights", "1"), "`--member-weights` needs `--runs`"),
        (("--model", "gone"), "gone is not a SavedModel that lcc_tf exported"),
        (("--model", __file__), "is not a SavedModel that lcc_tf exported"),
        (("--model", "lambda.keras"), "lambda.keras is not a SavedModel that lcc_tf exported"),
        (("--zones", ""), "argument --zones: must not be empty"),
    ],
)
def test_invalid_options_for_mapping_are_errors(refuse, tmp_path, arguments, text):
    write_scene(tmp_path / "scene.tif", noise(8, 8))
    image = keras.Input((8, 8, 3))
    lambda_model = keras.Model(image, keras.layers.Lambda(lambda x: x)(image))
    lambda_model.save(tmp_path / "lambda.keras")
    assert text in refuse("predict", "--input", "scene.tif", *arguments)
