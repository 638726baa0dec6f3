"""Configuration of a training run.

TensorFlow takes seconds to import. This module imports it only to check a configuration, so that
commands can print the defaults in their help without it.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field

from lcc_tf.errors import InputError
from tfds_deepglobe.classes import UNKNOWN
from tfds_deepglobe.file_names import FileNames

RECIPES = ("default", "original")
REGIMES = ("finetune", "frozen", "gradual")
FRAMINGS = ("crops", "whole")
CLASS_WEIGHTS = ("none", "inverse_frequency", "median_frequency")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Values of `TrainConfig.xla`, and Keras' `jit_compile` for each
XLA = {"auto": "auto", "on": True, "off": False}
# Values of fields that the `config.json` of an old run lacks
OLD_TRAIN_VALUES = {"xla": "auto"}
OLD_DATA_VALUES = {"image_glob": "*_sat.jpg", "mask_pattern": "*_mask.png"}
# Recipe names of old runs, and their present names
OLD_RECIPES = {"seed": "original"}
# Fields of `TrainConfig` that only one architecture has
MODEL_OPTIONS = {
    "unetpp": ("preprocessing", "deep_supervision"),
    "deeplabv3plus": ("preprocessing", "output_stride", "dilation_rates", "align_corners"),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images, and their split.

    Raises:
        tfds_deepglobe.errors.InputError: a name pattern is invalid.
    """

    data: str = "data/deepglobe"  # folder or zip of the raw archive, or "demo"
    cache_dir: str = "data/tfds"  # folder of prepared data sets
    # Name patterns of images and masks. `*` is the image's id. Folders may precede it, as in
    # "images/*.tif" and "labels/*_gt.png". The defaults are DeepGlobe's.
    image_glob: str = "*_sat.jpg"
    mask_pattern: str = "*_mask.png"
    split_files: str | None = None  # folder of split lists; None: a seeded random split
    map_color: tuple[str, ...] = ()  # "R,G,B=CLASS": mask colors outside the class table
    demo_count: int = 160  # scenes of `data="demo"`
    demo_size: int = 256  # side of a demo scene, pixels

    def __post_init__(self) -> None:
        FileNames.parse(self.image_glob, self.mask_pattern)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Configuration of a training run. The defaults are the recipe `default`.

    Raises:
        InputError: a value is invalid.
    """

    data: DataConfig = field(default_factory=DataConfig)

    # Network
    arch: str = "unetpp"
    encoder: str = "resnet101"
    encoder_weights: str | None = "imagenet"  # "imagenet", a weights file, or None for random
    preprocessing: str | None = None  # None: the encoder's; imported models can have another
    output_stride: int = 16  # DeepLabV3+ only: 16 or 8
    dilation_rates: tuple[int, ...] | None = None  # DeepLabV3+ only; None: set by output stride
    align_corners: bool = False  # DeepLabV3+ only; True for models from PyTorch
    deep_supervision: bool = False  # UNet++ only

    # Training
    recipe: str = "default"  # one of `RECIPES`, or "imported"
    regime: str = "finetune"
    image_size: int = 512  # side of the network's training images, pixels; the original's
    # "crops": crops of `image_size` at the images' resolution. "whole": whole images, resized to
    # `image_size`, as in the original; a DeepGlobe image is then reduced to a fifth of its side.
    framing: str = "crops"
    # Smallest and largest random scale of a crop. Random scales brought no gain for images of one
    # resolution, as in DeepGlobe (docs/recipe.md). For images of several resolutions, DeepLabV3
    # uses 0.5 to 2 (https://arxiv.org/abs/1706.05587, section 4.1).
    crop_scale: tuple[float, float] = (1.0, 1.0)
    # Fraction of crops around a pixel of a class that is drawn by rarity. 0.5 is from the class
    # uniform sampling of Zhu et al. 2019 (https://arxiv.org/abs/1812.01593, section 3.3).
    rare_class_share: float = 0.5
    batch_size: int = 8  # images per step, over all devices; the original's 7, made divisible
    epochs: int = 100  # the original's
    frozen_epochs: int = 10  # regime `gradual` only: epochs with a frozen encoder
    patience: int = 20  # epochs without a better `monitor` before training stops; the original's
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
    learning_rate: float = 1e-4  # largest learning rate of the schedule
    # Learning rate of the encoder as a fraction of `learning_rate`. Howard & Ruder 2018 propose
    # lower learning rates for pretrained layers (https://arxiv.org/abs/1801.06146, section 3.2).
    # They brought no gain here (docs/recipe.md).
    encoder_rate: float = 1.0
    # "cosine": linear warm-up, then cosine decay to 0 (Loshchilov & Hutter 2017,
    # https://arxiv.org/abs/1608.03983); one learning rate suits trainings of any length.
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 1e-2  # AdamW's, decoupled (https://arxiv.org/abs/1711.05101)
    # Decay per step, such as 0.999, of the moving average of the weights (Tarvainen & Valpola 2017,
    # https://arxiv.org/abs/1703.01780, section 2). The average is scored and saved. 0: no average;
    # with cosine decay, averages brought no gain (docs/recipe.md).
    ema_decay: float = 0.0
    precision: str = "float32"
    # XLA compilation of training and validation steps. "auto": Keras' choice, that is on for a
    # single GPU and off for CPU and several replicas. "on", "off": the same for all devices.
    xla: str = "auto"
    seed: int = 0  # random seed of weights, order and augmentation, not of the split

    def __post_init__(self) -> None:
        from lcc_tf.models import ARCHITECTURES, encoders_of

        check_choice("recipe", self.recipe, (*RECIPES, "imported"))
        check_choice("arch", self.arch, ARCHITECTURES)
        check_choice("encoder", self.encoder, encoders_of(self.arch))
        check_choice("regime", self.regime, REGIMES)
        check_choice("framing", self.framing, FRAMINGS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("xla", self.xla, XLA)
        check_choice("schedule", self.schedule, ("cosine", "constant"))
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
                "The regime `gradual` needs epochs with a frozen encoder, then epochs in which all "
                f"layers train. Received: frozen_epochs={self.frozen_epochs}, "
                f"epochs={self.epochs}. Use `epochs` above {self.frozen_epochs}, or fewer "
                "`frozen_epochs`."
            )

    def _check_loss(self) -> None:
        from lcc_tf.losses import check_loss

        weights = self.class_weights
        if isinstance(weights, str):
            check_choice("class_weights", weights, CLASS_WEIGHTS)
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
        """Reads the result of `to_json`, from this version or an earlier one.

        Raises:
            InputError: a field is missing, or this version does not know it.
        """
        try:
            data = _from_json(DataConfig, OLD_DATA_VALUES | values["data"])
            recipe = OLD_RECIPES.get(values["recipe"], values["recipe"])
            return _from_json(cls, OLD_TRAIN_VALUES | values | {"data": data, "recipe": recipe})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The configuration is from another version of lcc_tf: {error}. Use the version "
                "that config.json names."
            ) from error


def _from_json(cls: type, values: dict) -> object:
    """Makes a dataclass from JSON values of all its fields. Defaults differ between versions."""
    if missing := {field.name for field in dataclasses.fields(cls)} - set(values):
        raise KeyError(f"it lacks {sorted(missing)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Checks the value of an argument that has a list of choices.

    Raises:
        InputError: the value is not one of the choices.
    """
    if value not in choices:
        raise InputError(f"Unknown `{name}`. Received: {value!r}. Choose one of {list(choices)}.")
