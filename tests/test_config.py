import json

import numpy as np
import pytest

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.errors import InputError
from tfds_deepglobe.errors import InputError as DatasetError


def json_of(config):
    """Returns the fields of a configuration in the form that `config.json` of a run contains."""
    return json.loads(json.dumps(config.to_json()))


def test_configuration_from_its_json_is_equal():
    config = TrainConfig(
        data=DataConfig(map_color=("1,2,3=water",), image_glob="images/*.tif"),
        arch="deeplabv3plus",
        dilation_rates=(6, 12, 18),
        class_weights=(1.0, 2.0),
    )
    assert TrainConfig.from_json(json_of(config)) == config


def test_configurations_without_file_name_patterns_can_be_read():
    values = json_of(TrainConfig())
    for name in ("image_glob", "mask_pattern"):
        del values["data"][name]
    assert TrainConfig.from_json(values).data == DataConfig(
        image_glob="*_sat.jpg", mask_pattern="*_mask.png"
    )
    del values["data"]["split_files"]
    with pytest.raises(InputError, match="another version of lcc_tf.*split_files"):
        TrainConfig.from_json(values)


def test_configurations_without_the_xla_option_can_be_read():
    values = json_of(TrainConfig())
    del values["xla"]
    assert TrainConfig.from_json(values) == TrainConfig(xla="auto")


def test_recipe_seed_of_old_runs_is_read_as_original():
    values = json_of(TrainConfig(recipe="original")) | {"recipe": "seed"}
    assert TrainConfig.from_json(values) == TrainConfig(recipe="original")
    with pytest.raises(InputError, match="Unknown `recipe`.*'seed'"):
        TrainConfig(recipe="seed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "unet3"}, "Unknown `arch`.*'unet3'.*unetpp"),
        ({"encoder": "vgg"}, "Unknown `encoder`.*resnet101"),
        ({"regime": "thaw"}, "Unknown `regime`.*gradual"),
        ({"precision": "int8"}, "Unknown `precision`.*mixed_bfloat16"),
        ({"recipe": "best"}, "Unknown `recipe`.*original"),
        ({"image_size": 500}, "`image_size` must be divisible by 32.*Use 512"),
        ({"epochs": 0}, "`epochs` must be larger than 0. Received: 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        ({"learning_rate": 10**400}, "`learning_rate` must be a finite number"),
        ({"seed": -1}, "`seed` must be in"),
        ({"seed": 1.5}, "`seed` must be a whole number. Received: 1.5"),
        ({"epochs": "9"}, "`epochs` must be a whole number. Received: '9'"),
        ({"epochs": True}, "`epochs` must be a whole number. Received: True"),
        ({"epochs": None}, "`epochs` must be a whole number. Received: None"),
        ({"image_size": 32 * 10**9}, "`image_size` must be at most 16384"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be 0 or more. Received: -0.0001"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be a finite number. Received: inf"),
        ({"align_corners": 1}, "`align_corners` must be True or False. Received: 1"),
        ({"arch": ["unetpp"]}, r"`arch` must be a text. Received: \['unetpp'\]"),
        (
            {"crop_scale": (1.0,)},
            r"`crop_scale` must be a tuple of two finite numbers. Received: \(1.0,\)",
        ),
        ({"class_weights": (1.0, "2")}, r"`class_weights` must be a text or tuple.*'2'"),
        ({"dilation_rates": (6, 1.5)}, "`dilation_rates` must be tuple.*6, 1.5"),
        ({"data": "data/deepglobe"}, "`data` must be .*DataConfig.*'data/deepglobe'"),
        ({"deep_supervision": True, "arch": "deeplabv3plus"}, "option of unetpp only"),
        ({"output_stride": 8}, "`output_stride` is an option of deeplabv3plus only.*unetpp"),
        ({"framing": "tiles"}, "Unknown `framing`.*crops"),
        ({"crop_scale": (2.0, 0.5)}, "smallest and the largest scale.*2.0, 0.5"),
        ({"rare_class_share": 1.5}, r"`rare_class_share` must be in \[0, 1\]. Received: 1.5"),
        ({"crops_per_image": 0}, r"`crops_per_image` must be in \[1, 1000\].*Received: 0"),
        ({"crops_per_image": 2, "framing": "whole"}, "whole images.*crops_per_image=2"),
        ({"monitor": "val_loss"}, "Unknown `monitor`.*'val_loss'.*val_mean_iou"),
        ({"ema_decay": 1.0}, r"`ema_decay` must be in \[0, 1\)"),
        ({"loss": "hinge"}, "hinge.*lovasz"),
        ({"class_weights": "often"}, "Unknown `class_weights`.*median_frequency"),
        ({"class_weights": (1.0, -1.0)}, "finite, not negative and not all 0"),
        ({"loss": "dice", "label_smoothing": 0.1}, "does not support `label_smoothing`"),
        ({"regime": "gradual", "epochs": 10}, "frozen_epochs=10, epochs=10"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_glob": "images/"}, r"exactly one \*.*images/"),
        ({"mask_pattern": "*.gif"}, "must end in one of .jpg"),
        ({"mask_pattern": "*.npy"}, "`mask_pattern` must match image files"),
        ({"bands": "red"}, "`bands` must be different numbers of bands.*Received: bands=red"),
        ({"image_glob": "*_{a,b.tif"}, "names of bands once, in braces"),
    ],
)
def test_invalid_file_name_patterns_raise(options, message):
    with pytest.raises(DatasetError, match=message):
        DataConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"demo_count": "many"}, "`demo_count` must be a whole number"),
        ({"data": 5}, "`data` must be a text. Received: 5"),
        ({"map_color": ("1,2,3=water", 7)}, "`map_color` must be tuple"),
        ({"split_files": False}, "`split_files` must be a text or None. Received: False"),
        ({"data": ""}, "`data` must not be empty"),
    ],
)
def test_data_options_of_other_types_raise(options, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**options)


def test_numbers_of_numpy_are_accepted():
    config = TrainConfig(epochs=np.int64(3), learning_rate=np.float32(1e-3), weight_decay=0)
    assert config.epochs == 3


def test_configurations_of_other_versions_raise():
    values = json_of(TrainConfig())
    with pytest.raises(InputError, match="another version of lcc_tf.*colour"):
        TrainConfig.from_json(values | {"colour": 1})
    # A missing field is an error, because the default of this version can differ from the value in
    # the run.
    for name in ("data", "framing"):
        incomplete = {key: value for key, value in values.items() if key != name}
        with pytest.raises(InputError, match=f"another version of lcc_tf.*{name}"):
            TrainConfig.from_json(incomplete)


def test_paths_that_do_not_exist_are_replaced_by_absolute_paths(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "raw").mkdir(parents=True)
    data_set = home / "tf" / "deepglobe" / ("0" * 16) / "1.0.0"
    data_set.mkdir(parents=True)
    (data_set / "dataset_info.json").touch()
    (elsewhere / "tf" / "deepglobe").mkdir(parents=True)  # without the data set
    monkeypatch.chdir(home)
    data = DataConfig(data="raw", cache_dir="tf", split_files=None)
    absolute = data.absolute_paths()
    assert absolute == {"data": str(home / "raw"), "cache_dir": str(home / "tf")}
    assert data.with_existing_paths(absolute, "0" * 64) == data
    monkeypatch.chdir(elsewhere)
    found = data.with_existing_paths(absolute, "0" * 64)
    assert (found.data, found.cache_dir) == (str(home / "raw"), str(home / "tf"))
    assert data.with_existing_paths({}, "0" * 64) == data  # a run of an earlier version
    monkeypatch.chdir(tmp_path)
    home.rename(tmp_path / "moved")  # together with the data
    monkeypatch.chdir(tmp_path / "moved")
    assert data.with_existing_paths(absolute, "0" * 64) == data


def test_demo_is_not_a_path(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    data = DataConfig(data="demo", cache_dir="demo/tfds", split_files="lists")
    assert data.absolute_paths() == {
        "cache_dir": str(tmp_path / "demo" / "tfds"),
        "split_files": str(tmp_path / "lists"),
    }


def test_numbers_of_numpy_become_json():
    config = TrainConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
