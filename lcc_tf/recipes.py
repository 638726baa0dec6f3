"""Recipes (named sets of options), and configurations from options.

The recipe `original` contains the settings of the original PyTorch notebooks.
"""

import dataclasses

from lcc_tf.config import RECIPES, DataConfig, TrainConfig, check_choice
from lcc_tf.errors import InputError


def recipe_settings(recipe: str, *, arch: str, regime: str) -> dict:
    """Returns the fields of `TrainConfig` that a recipe sets.

    Args:
        recipe: one of `RECIPES`.
        arch: a key of `lcc_tf.models.ARCHITECTURES`.
        regime: one of `REGIMES`.

    Raises:
        InputError: the recipe is unknown, or the recipe does not support the regime.

    Example:
        >>> recipe_settings("original", arch="unetpp", regime="frozen")["patience"]
        50
    """
    check_choice("recipe", recipe, RECIPES)
    if recipe == "default":
        return {}
    if regime == "gradual":
        raise InputError(
            "The recipe 'original' trains all layers or freezes the encoder. Received: "
            f"recipe={recipe!r}, regime={regime!r}. Use `regime='finetune'`, `regime='frozen'` or "
            "`recipe='default'`."
        )
    if regime == "finetune":
        # The original notebooks use the default weight decay of AdamW in PyTorch, which is 1e-2.
        length = {"epochs": 100, "patience": 20, "weight_decay": 1e-2}
    else:
        patience = 50 if arch == "unetpp" else 30
        length = {"epochs": 500, "patience": patience, "weight_decay": 1e-4}
    return length | {
        "image_size": 512,
        "framing": "whole",
        "batch_size": 7,
        "loss": "dice",
        "ignore_class": None,
        "learning_rate": 1e-5,
        "schedule": "constant",
        "monitor": "val_iou",
    }


def from_options(options: dict, *, earlier: TrainConfig | None = None) -> TrainConfig:
    """Makes a configuration from options.

    Args:
        options: values of fields. Key: name of a field of `TrainConfig` or `DataConfig`.
        earlier: configuration of a run to resume. It sets all fields that are not in `options`. If
            None, the recipe sets these fields.

    Raises:
        InputError: a value is invalid.

    Example:
        >>> config = from_options({"recipe": "original", "arch": "deeplabv3plus", "data": "demo"})
        >>> config.arch, config.data.data, config.loss
        ('deeplabv3plus', 'demo', 'dice')
    """
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    data_names = {data_field.name for data_field in dataclasses.fields(DataConfig)}
    data = {name: value for name, value in options.items() if name in data_names}
    training = {name: value for name, value in options.items() if name not in data_names}
    choices = ("recipe", "arch", "regime")
    settings = recipe_settings(
        **{name: training.get(name, getattr(TrainConfig, name)) for name in choices}
    )
    if earlier:
        data = dataclasses.replace(earlier.data, **data)
        return dataclasses.replace(earlier, **training, data=data)
    return TrainConfig(**settings | training | {"data": DataConfig(**data)})
