"""Configuration of a training run, and the recipes that fill it in.

TensorFlow takes seconds to import. This file imports it only to check a configuration, so that
commands can show the defaults in their help without it.
"""

import dataclasses
from dataclasses import dataclass, field

from lcc_tf.errors import InputError
from tfds_deepglobe.classes import UNKNOWN
from tfds_deepglobe.file_names import FileNames

RECIPES = ("default", "original")
REGIMES = ("finetune", "frozen", "gradual")
FRAMINGS = ("crops", "whole")
CLASS_WEIGHTS = ("none", "inverse_frequency", "median_frequency")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Values of Keras' `jit_compile` by the values of `TrainConfig.xla`
XLA = {"auto": "auto", "on": True, "off": False}
# Values for runs that are older than these fields of `TrainConfig` and `DataConfig`
OLD_TRAIN_VALUES = {"xla": "auto"}
OLD_DATA_VALUES = {"image_glob": "*_sat.jpg", "mask_pattern": "*_mask.png"}
# Recipes of older runs, by the names that they had
OLD_RECIPES = {"seed": "original"}
# Options of the architectures that have options
MODEL_OPTIONS = {
    "unetpp": ("preprocessing", "deep_supervision"),
    "deeplabv3plus": ("preprocessing", "output_stride", "dilation_rates", "align_corners"),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images, and their split.

    Raises:
        InputError: a name pattern cannot be used.
    """

    data: str = "data/deepglobe"  # folder or zip of the raw archive, or "demo"
    cache_dir: str = "data/tfds"  # folder of prepared data sets
    # Names of images and masks, by default DeepGlobe's. The `*` is the image's id. Folders may
    # precede it, as in "images/*.tif" and "labels/*_gt.png".
    image_glob: str = "*_sat.jpg"
    mask_pattern: str = "*_mask.png"
    split_files: str | None = None  # folder of split lists; None: a seeded random split
    map_color: tuple[str, ...] = ()  # "R,G,B=CLASS": colors outside the class table
    demo_count: int = 160  # scenes of `data="demo"`
    demo_size: int = 256  # side of a scene, pixels

    def __post_init__(self) -> None:
        FileNames.parse(self.image_glob, self.mask_pattern)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The defaults are the recipe `default` with all layers trained.

    Raises:
        InputError: a value cannot be used.
    """

    data: DataConfig = field(default_factory=DataConfig)

    # The network
    arch: str = "unetpp"
    encoder: str = "resnet101"
    encoder_weights: str | None = "imagenet"  # "imagenet", None (random) or a file
    preprocessing: str | None = None  # None: the encoder's; imported models may differ
    output_stride: int = 16  # DeepLabV3+ only: 16 or 8
    dilation_rates: tuple[int, ...] | None = None  # DeepLabV3+ only; None: by output stride
    align_corners: bool = False  # DeepLabV3+ only; True in models from PyTorch
    deep_supervision: bool = False  # UNet++ only

    # The training
    recipe: str = "default"  # of `RECIPES`, or "imported"
    regime: str = "finetune"
    image_size: int = 512  # side of the network's training images, pixels; the original's
    # "whole": images resized to `image_size`, as in the original; for DeepGlobe, to a fifth of
    # their resolution. "crops": crops of `image_size` at the images' resolution.
    framing: str = "crops"
    # Random scale of a crop, smallest and largest. Images of one resolution, as DeepGlobe's, gain
    # nothing from random scales (docs/recipe.md). For images of several resolutions, DeepLabV3,
    # section 4.1, uses 0.5 to 2 (https://arxiv.org/abs/1706.05587).
    crop_scale: tuple[float, float] = (1.0, 1.0)
    # Fraction of crops that contain a pixel of a class drawn by rarity. Half, as in the class
    # uniform sampling of Zhu et al. 2019, section 3.3 (https://arxiv.org/abs/1812.01593).
    rare_class_share: float = 0.5
    batch_size: int = 8  # images per step, over all devices; the original's 7, made divisible
    epochs: int = 100  # the original's
    frozen_epochs: int = 10  # `gradual` only: epochs before the encoder trains too
    patience: int = 20  # epochs without a better `monitor` before training ends; the original's
    monitor: str = "val_mean_iou"  # score that selects the best weights; higher is better
    # The most robust loss over data sets in Ma et al. 2021, Loss odyssey
    # (https://doi.org/10.1016/j.media.2021.102035).
    loss: str = "cross_entropy+dice"
    # "none", "inverse_frequency", "median_frequency" or one number per class
    class_weights: str | tuple[float, ...] = "none"
    label_smoothing: float = 0.0  # of cross entropy and focal loss, in [0, 1)
    # Class that loss and scores ignore, if the data set has it; None: no class. The challenge does
    # not score `unknown` (https://arxiv.org/abs/1805.06561).
    ignore_class: str | None = UNKNOWN
    learning_rate: float = 1e-4  # the largest of the schedule
    # Learning rate of the encoder as a fraction of `learning_rate`. A lower learning rate for
    # pretrained layers (Howard & Ruder 2018, section 3.2, https://arxiv.org/abs/1801.06146) brought
    # no gain (docs/recipe.md).
    encoder_rate: float = 1.0
    # Cosine decay to 0 after a linear warm-up (Loshchilov & Hutter 2017,
    # https://arxiv.org/abs/1608.03983): one learning rate fits trainings of any length.
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 1e-2  # AdamW's, decoupled (https://arxiv.org/abs/1711.05101)
    # Decay per step, such as 0.999, of the moving average of the weights, which is scored and saved
    # (Tarvainen & Valpola 2017, section 2, https://arxiv.org/abs/1703.01780). 0: no average, which
    # brought no gain with cosine decay (docs/recipe.md).
    ema_decay: float = 0.0
    precision: str = "float32"
    # Compilation of training and validation steps with XLA. "auto": Keras' choice, on for a single
    # GPU, off for the CPU and several replicas; "on" or "off": on all devices.
    xla: str = "auto"
    seed: int = 0  # random seed of weights, order and augmentation, not of the split

    def __post_init__(self) -> None:
        from lcc_tf.models import ARCHITECTURES, encoders_of

        _check_choice("recipe", self.recipe, (*RECIPES, "imported"))
        _check_choice("arch", self.arch, ARCHITECTURES)
        _check_choice("encoder", self.encoder, encoders_of(self.arch))
        _check_choice("regime", self.regime, REGIMES)
        _check_choice("framing", self.framing, FRAMINGS)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("xla", self.xla, XLA)
        _check_choice("schedule", self.schedule, ("cosine", "constant"))
        for name in ("image_size", "batch_size", "epochs", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"`{name}` must be larger than 0. Received: {getattr(self, name)}."
                )
        for name in ("rare_class_share", "encoder_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be in [0, 1]. Received: {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"`ema_decay` must be in [0, 1). Received: {self.ema_decay}.")
        if (
            len(self.crop_scale) != 2
            or not 1 / 16 <= self.crop_scale[0] <= self.crop_scale[1] <= 16
        ):
            raise InputError(
                "`crop_scale` must be the smallest and the largest scale of crops, in [1/16, 16], "
                f"such as 0.5 2. Received: {self.crop_scale}."
            )
        self._check_loss()
        self._check_network()
        if not 0 <= self.seed < 2**32:
            raise InputError(f"`seed` must be in [0, 2**32). Received: {self.seed}.")
        if self.regime == "gradual" and not 0 < self.frozen_epochs < self.epochs:
            raise InputError(
                "The regime `gradual` needs epochs with the encoder frozen and epochs without. "
                f"Received: frozen_epochs={self.frozen_epochs}, epochs={self.epochs}. "
                f"Use `epochs` above {self.frozen_epochs}, or fewer `frozen_epochs`."
            )

    def _check_loss(self) -> None:
        from lcc_tf.losses import check_loss

        weights = self.class_weights
        if isinstance(weights, str):
            _check_choice("class_weights", weights, CLASS_WEIGHTS)
            weights = None
        check_loss(self.loss, class_weights=weights, label_smoothing=self.label_smoothing)

    def _check_network(self) -> None:
        from lcc_tf.models import size_divisor_of

        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            archs = [arch for arch, names in MODEL_OPTIONS.items() if option.name in names]
            if archs and self.arch not in archs and value != option.default:
                raise InputError(
                    f"`{option.name}` is an option of {' and '.join(archs)} only. Received: "
                    f"{option.name}={value!r}, arch={self.arch!r}. Omit it, or choose another "
                    "`arch`."
                )
        divisor = size_divisor_of(self.arch, self.output_stride)
        if self.image_size % divisor:
            nearest = max(divisor, round(self.image_size / divisor) * divisor)
            raise InputError(
                f"`image_size` must be divisible by {divisor}, the network's largest stride. "
                f"Received: image_size={self.image_size}. Use {nearest}."
            )

    def model_options(self) -> dict:
        """Returns the keyword arguments for `build_model`, except `encoder_weights`."""
        options = {name: getattr(self, name) for name in MODEL_OPTIONS.get(self.arch, ())}
        return {"encoder": self.encoder} | options

    def to_json(self) -> dict:
        """Returns all fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "TrainConfig":
        """Reads what `to_json` returned, in this version or an earlier one.

        Raises:
            InputError: fields are missing, or this version does not know them.
        """
        try:
            data = _from_json(DataConfig, OLD_DATA_VALUES | values["data"])
            recipe = OLD_RECIPES.get(values["recipe"], values["recipe"])
            return _from_json(cls, OLD_TRAIN_VALUES | values | {"data": data, "recipe": recipe})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The configuration is not one of this version of lcc_tf: {error}."
            ) from error


def _from_json(cls: type, values: dict) -> object:
    """Makes a dataclass from JSON values. None may be missing, since defaults change."""
    if missing := {field.name for field in dataclasses.fields(cls)} - set(values):
        raise KeyError(f"it lacks {sorted(missing)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def recipe_settings(recipe: str, *, arch: str, regime: str) -> dict:
    """Returns the fields of `TrainConfig` that a recipe sets.

    Args:
        recipe: one of `RECIPES`.
        arch: a key of `lcc_tf.models.ARCHITECTURES`.
        regime: one of `REGIMES`.

    Raises:
        InputError: the recipe is unknown, or the original lacks the regime.

    Example:
        >>> recipe_settings("original", arch="unetpp", regime="frozen")["patience"]
        50
    """
    _check_choice("recipe", recipe, RECIPES)
    if recipe == "default":
        return {}
    if regime == "gradual":
        raise InputError(
            "The original trains all layers or freezes the encoder. Received: "
            f"recipe={recipe!r}, regime={regime!r}. Use `regime='finetune'`, `regime='frozen'` or "
            "`recipe='default'`."
        )
    if regime == "finetune":
        # PyTorch's default weight decay of AdamW, which the original left unchanged
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


def from_recipe(
    recipe: str, *, arch: str, regime: str = "finetune", **overrides: object
) -> TrainConfig:
    """Makes a configuration from a recipe.

    Args:
        recipe: "default", or "original" for the original's settings and regimes.
        arch: a key of `lcc_tf.models.ARCHITECTURES`.
        regime: one of `REGIMES`.
        **overrides: fields of `TrainConfig` that replace the recipe's.

    Raises:
        InputError: the recipe is unknown, the original lacks the regime, or a value cannot be
            used.

    Example:
        >>> config = from_recipe("original", arch="unetpp", batch_size=4)
        >>> config.loss, config.learning_rate, config.batch_size
        ('dice', 1e-05, 4)
    """
    settings = recipe_settings(recipe, arch=arch, regime=regime)
    return TrainConfig(**settings | {"recipe": recipe, "arch": arch, "regime": regime} | overrides)


def _check_choice(name: str, value: object, choices: object) -> None:
    if value not in choices:
        raise InputError(f"Unknown `{name}`. Received: {value!r}. Choose one of {list(choices)}.")


def from_options(options: dict, *, earlier: TrainConfig | None = None) -> TrainConfig:
    """Makes a configuration from options.

    Args:
        options: values by the names of fields of `TrainConfig` and `DataConfig`.
        earlier: configuration of a run to resume, which fills in fields without an option. None to
            fill them in from the recipe.

    Raises:
        InputError: a value cannot be used.

    Example:
        >>> config = from_options({"arch": "deeplabv3plus", "data": "demo"})
        >>> config.arch, config.data.data, config.recipe
        ('deeplabv3plus', 'demo', 'default')
    """
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    data_names = {data_field.name for data_field in dataclasses.fields(DataConfig)}
    data = {name: value for name, value in options.items() if name in data_names}
    training = {name: value for name, value in options.items() if name not in data_names}
    recipe = training.get("recipe", TrainConfig.recipe)
    _check_choice("recipe", recipe, RECIPES)
    if earlier:
        data = dataclasses.replace(earlier.data, **data)
        return dataclasses.replace(earlier, **training, data=data)
    arch = training.get("arch", TrainConfig.arch)
    return from_recipe(**{"recipe": recipe, "arch": arch} | training | {"data": DataConfig(**data)})
