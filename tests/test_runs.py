import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.runs import (
    BEST,
    CONFIG,
    Run,
    find_runs,
    load_model,
    read_run,
    read_runs,
    write_run,
)
from tests.untrained_runs import write_untrained_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture(scope="module")
def runs(tiny_config, builder, tmp_path_factory):
    """Folder with two runs, `unetpp` and `deeplabv3plus`, which have random weights."""
    root = tmp_path_factory.mktemp("runs")
    for arch in ("unetpp", "deeplabv3plus"):
        write_untrained_run(root / arch, tiny_config, builder, arch=arch)
    return root


def test_read_run_equals_the_written_run(runs, tiny_config):
    run = read_run(runs / "deeplabv3plus")
    assert run.config == tiny_config
    assert run.classes == DEEPGLOBE_CLASSES
    assert run.name == "deeplabv3plus"
    content = json.loads((run.path / CONFIG).read_text())
    assert content["versions"]["keras"] == keras.__version__
    assert content["num_parameters"] > 1000
    assert [run.name for run in find_runs(runs)] == ["deeplabv3plus", "unetpp"]


def test_run_finds_its_data_from_another_working_directory(
    tiny_config, builder, tmp_path, monkeypatch
):
    cache_dir = Path(tiny_config.data.cache_dir)
    monkeypatch.chdir(cache_dir.parent)
    data = dataclasses.replace(tiny_config.data, cache_dir=cache_dir.name)
    config = dataclasses.replace(tiny_config, data=data)
    run = Run(tmp_path, config, DEEPGLOBE_CLASSES, builder.info.metadata["fingerprint"], 64.0)
    write_run(run, num_parameters=1)
    assert read_run(tmp_path) == run
    monkeypatch.chdir("/")
    assert read_run(tmp_path).config == tiny_config
    content = json.loads((tmp_path / CONFIG).read_text())
    del content["absolute_paths"]  # as in earlier versions
    (tmp_path / CONFIG).write_text(json.dumps(content))
    assert read_run(tmp_path) == run
    (tmp_path / CONFIG).write_text(json.dumps(content | {"absolute_paths": ["a"]}))
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path)


def test_runs_are_read_from_paths_or_from_the_root_folder(runs, tmp_path):
    assert [run.name for run in read_runs([runs / "unetpp"], tmp_path)] == ["unetpp"]
    same = [runs / "unetpp", runs / "deeplabv3plus" / ".." / "unetpp"]
    with pytest.raises(InputError, match="each run only once. Received: .*unetpp"):
        read_runs(same, tmp_path)
    assert [run.name for run in read_runs([], runs)] == ["deeplabv3plus", "unetpp"]
    with pytest.raises(InputError, match="no trained run"):
        read_runs([], tmp_path)


def test_loaded_model_has_the_best_weights(runs):
    run = read_run(runs / "deeplabv3plus")
    model = load_model(run)
    twin = keras.models.clone_model(model)
    twin.load_weights(run.path / BEST)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(model(image), twin(image), atol=1e-6)


def test_invalid_run_folders_raise(tmp_path, runs):
    with pytest.raises(InputError, match="not a run folder"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="no trained run"):
        find_runs(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path)
    (tmp_path / CONFIG).write_text((runs / "unetpp" / CONFIG).read_text())
    run = read_run(tmp_path)
    with pytest.raises(InputError, match="not finished an epoch"):
        load_model(run)
    wide = dataclasses.replace(run.config, arch="deeplabv3plus")
    (tmp_path / BEST).write_bytes((runs / "unetpp" / BEST).read_bytes())
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(dataclasses.replace(run, config=wide))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"native_size": 0}, r"`native_size` must be a number of pixels in \(0, 1000000\]"),
        ({"native_size": "64"}, "`native_size` must be a finite number. Received: '64'"),
        ({"native_size": float("nan")}, "`native_size` must be a finite number. Received: nan"),
        ({"native_size": 1e12}, "`native_size` must be a number of pixels"),
        ({"dataset_fingerprint": 7}, "`fingerprint` must be a text or None. Received: 7"),
        ({"class_names": [1, 2, 3, 4, 5, 6, 7]}, "needs a name.*Received: 1"),
        ({"class_names": 7}, "TypeError"),
        ({"palette": [[0.5, 0, 0]] * 7}, r"color \(0.5, 0, 0\) more than once"),
        ({"palette": [[i / 2, 0, 0] for i in range(7)]}, r"three numbers in \[0, 255\].*0.0, 0"),
        ({"palette": [[i, 0] for i in range(7)]}, r"three numbers in \[0, 255\]"),
        ({"code": "x"}, r"this version of lcc_tf does not know the keys \['code'\]"),
        ({"config": []}, "another version of lcc_tf|TypeError"),
        ({"config": None}, "another version of lcc_tf|TypeError"),
    ],
)
def test_hand_edited_configurations_raise(tmp_path, runs, changes, message):
    content = json.loads((runs / "unetpp" / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(content | changes))
    with pytest.raises(InputError, match=f"config.json cannot be read: .*({message})") as error:
        read_run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["[]", "null", "7", '"a"', "{}", "\x00", '{"config": {}}', "[" * 10**5]
)
def test_files_that_are_not_configurations_raise(tmp_path, text):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(InputError, match="config.json cannot be read: "):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("image_size", value) for value in (0, -64, "64", 64.5, None, [64])),
        *(("learning_rate", value) for value in (0, "fast", None)),
        *(("arch", value) for value in (7, None, ["unetpp"])),
        *(("data", value) for value in (7, [], None, {"data": 7})),
    ],
)
def test_hand_edited_options_raise(tmp_path, runs, name, value):
    content = json.loads((runs / "unetpp" / CONFIG).read_text())
    content["config"][name] = value
    (tmp_path / CONFIG).write_text(json.dumps(content))
    with pytest.raises(InputError, match="config.json cannot be read: "):
        read_run(tmp_path)
