import json

import pytest

from lcc_tf.config import DataConfig, TrainConfig, from_options, from_recipe
from lcc_tf.errors import InputError
from tfds_deepglobe.errors import InputError as DatasetError


def test_defaults_run():
    config = from_options({})
    assert (config.arch, config.encoder, config.encoder_weights) == (
        "unetpp",
        "resnet101",
        "imagenet",
    )
    assert config.data.data == "data/deepglobe"


@pytest.mark.parametrize(
    ("arch", "regime", "epochs", "patience", "weight_decay"),
    [
        ("unetpp", "finetune", 100, 20, 1e-2),
        ("deeplabv3plus", "finetune", 100, 20, 1e-2),
        ("unetpp", "frozen", 500, 50, 1e-4),
        ("deeplabv3plus", "frozen", 500, 30, 1e-4),
    ],
)
def test_recipe_of_the_original(arch, regime, epochs, patience, weight_decay):
    config = from_recipe("original", arch=arch, regime=regime)
    assert (config.epochs, config.patience, config.weight_decay) == (epochs, patience, weight_decay)
    assert (config.image_size, config.batch_size, config.learning_rate) == (512, 7, 1e-5)
    assert (config.loss, config.schedule, config.monitor) == ("dice", "constant", "val_iou")
    assert config.framing == "whole"
    assert (config.ignore_class, config.class_weights, config.label_smoothing) == (None, "none", 0)


def test_options_override_the_recipe():
    config = from_options({"recipe": "original", "epochs": 3, "map_color": ["255,0,0=unknown"]})
    assert (config.epochs, config.batch_size) == (3, 7)
    assert config.data.map_color == ("255,0,0=unknown",)


def test_json_and_back():
    config = TrainConfig(
        data=DataConfig(map_color=("1,2,3=water",), image_glob="images/*.tif"),
        arch="deeplabv3plus",
        dilation_rates=(6, 12, 18),
        class_weights=(1.0, 2.0),
    )
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_runs_older_than_file_name_patterns_can_be_read():
    values = json.loads(json.dumps(TrainConfig().to_json()))
    for name in ("image_glob", "mask_pattern"):
        del values["data"][name]
    assert TrainConfig.from_json(values).data == DataConfig(
        image_glob="*_sat.jpg", mask_pattern="*_mask.png"
    )
    del values["data"]["split_files"]
    with pytest.raises(InputError, match="not one of this version.*split_files"):
        TrainConfig.from_json(values)


def test_runs_older_than_the_xla_option_can_be_read():
    values = json.loads(json.dumps(TrainConfig().to_json()))
    del values["xla"]
    assert TrainConfig.from_json(values) == TrainConfig(xla="auto")


def test_resumed_runs_keep_their_options():
    earlier = from_options({"arch": "deeplabv3plus", "data": "demo", "batch_size": 3})
    config = from_options({"epochs": 7, "cache_dir": "elsewhere"}, earlier=earlier)
    assert (config.arch, config.batch_size, config.epochs) == ("deeplabv3plus", 3, 7)
    assert (config.data.data, config.data.cache_dir) == ("demo", "elsewhere")


def test_recipe_seed_of_older_runs_is_the_original():
    config = from_recipe("original", arch="unetpp")
    values = json.loads(json.dumps(config.to_json())) | {"recipe": "seed"}
    assert TrainConfig.from_json(values) == config
    with pytest.raises(InputError, match="Unknown `recipe`.*'seed'"):
        from_options({"recipe": "seed"}, earlier=config)
    with pytest.raises(InputError, match="Unknown `recipe`.*'seed'"):
        TrainConfig(recipe="seed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "unet3"}, "Unknown `arch`.*'unet3'.*unetpp"),
        ({"image_glob": "images/"}, "--image-glob takes one `\\*`.*Received: `images/`"),
        ({"mask_pattern": "*.npy"}, "--mask-pattern must end in one of .jpg"),
        ({"encoder": "vgg"}, "Unknown `encoder`.*resnet101"),
        ({"regime": "thaw"}, "Unknown `regime`.*gradual"),
        ({"precision": "int8"}, "Unknown `precision`.*mixed_bfloat16"),
        ({"recipe": "best"}, "Unknown `recipe`.*original"),
        ({"recipe": "seed"}, "Unknown `recipe`.*'seed'.*default.*original"),
        ({"image_size": 500}, "`image_size` must be divisible by 32.*Use 512"),
        ({"epochs": 0}, "`epochs` must be larger than 0. Received: 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be larger than 0"),
        ({"seed": -1}, "`seed` must be in"),
        ({"deep_supervision": True, "arch": "deeplabv3plus"}, "option of unetpp only"),
        ({"output_stride": 8}, "`output_stride` is an option of deeplabv3plus only.*unetpp"),
        ({"framing": "tiles"}, "Unknown `framing`.*crops"),
        ({"crop_scale": [2.0, 0.5]}, "smallest and the largest scale.*2.0, 0.5"),
        ({"rare_class_share": 1.5}, r"`rare_class_share` must be in \[0, 1\]. Received: 1.5"),
        ({"ema_decay": 1.0}, r"`ema_decay` must be in \[0, 1\)"),
        ({"loss": "hinge"}, "hinge.*lovasz"),
        ({"class_weights": "often"}, "Unknown `class_weights`.*median_frequency"),
        ({"class_weights": [1.0, -1.0]}, "finite, not negative and not all 0"),
        ({"loss": "dice", "label_smoothing": 0.1}, "no labels to smooth"),
        ({"recipe": "original", "regime": "gradual"}, "original trains all layers"),
        ({"regime": "gradual", "epochs": 10}, "frozen_epochs=10, epochs=10"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises((InputError, DatasetError), match=message):
        from_options(options)


def test_configuration_of_another_version():
    values = TrainConfig().to_json()
    with pytest.raises(InputError, match="not one of this version.*colour"):
        TrainConfig.from_json(values | {"colour": 1})
    # Defaults may differ from those of the run's version.
    for name in ("data", "framing"):
        lacking = {key: value for key, value in values.items() if key != name}
        with pytest.raises(InputError, match=f"not one of this version.*{name}"):
            TrainConfig.from_json(lacking)
