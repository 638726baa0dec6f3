import pytest

from lcc_tf.errors import InputError
from lcc_tf.recipes import from_options


def test_default_recipe():
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
def test_original_recipe(arch, regime, epochs, patience, weight_decay):
    config = from_options({"recipe": "original", "arch": arch, "regime": regime})
    assert (config.epochs, config.patience, config.weight_decay) == (epochs, patience, weight_decay)
    assert (config.image_size, config.batch_size, config.learning_rate) == (512, 7, 1e-5)
    assert (config.loss, config.schedule, config.monitor) == ("dice", "constant", "val_iou")
    assert config.framing == "whole"
    assert (config.ignore_class, config.class_weights, config.label_smoothing) == (None, "none", 0)


def test_options_override_the_recipe():
    config = from_options({"recipe": "original", "epochs": 3, "map_color": ["255,0,0=unknown"]})
    assert (config.epochs, config.batch_size) == (3, 7)
    assert config.data.map_color == ("255,0,0=unknown",)


def test_resumed_run_keeps_its_options():
    earlier = from_options({"arch": "deeplabv3plus", "data": "demo", "batch_size": 3})
    config = from_options({"epochs": 7, "cache_dir": "elsewhere"}, earlier=earlier)
    assert (config.arch, config.batch_size, config.epochs) == ("deeplabv3plus", 3, 7)
    assert (config.data.data, config.data.cache_dir) == ("demo", "elsewhere")


def test_regime_that_the_original_recipe_lacks_raises():
    with pytest.raises(InputError, match="original' trains all layers.*regime='gradual'"):
        from_options({"recipe": "original", "regime": "gradual"})


@pytest.mark.parametrize("recipe", ["best", "seed"])
@pytest.mark.parametrize("resumed", [False, True])
def test_unknown_recipe_raises(recipe, resumed):
    earlier = from_options({}) if resumed else None
    with pytest.raises(InputError, match=f"Unknown `recipe`.*{recipe!r}.*'default', 'original'"):
        from_options({"recipe": recipe}, earlier=earlier)
