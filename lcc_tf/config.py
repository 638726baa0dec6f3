"""Everything a training run is made of, and the recipes that fill it in."""

import dataclasses
from dataclasses import dataclass, field

from lcc_tf.errors import InputError
from lcc_tf.losses import check_loss
from lcc_tf.models import ARCHITECTURES, encoders_of, size_divisor_of
from lcc_tf.models.preprocessing import check_image_size
from tfds_deepglobe.classes import UNKNOWN
from tfds_deepglobe.file_names import FileNames

REGIMES = ("finetune", "frozen", "gradual")
FRAMINGS = ("crops", "whole")
CLASS_WEIGHTS = ("none", "inverse_frequency", "median_frequency")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Values of Keras' `jit_compile` by the values of `TrainConfig.xla`
XLA = {"auto": "auto", "on": True, "off": False}
# What runs had that were made before these fields of `TrainConfig` were.
FIELDS_BEFORE = {"xla": "auto"}
# What runs had that were made before these fields of `DataConfig` were.
NAMES_BEFORE = {"image_glob": "*_sat.jpg", "mask_pattern": "*_mask.png"}
# Options that one architecture has and others lack.
OPTIONS_OF = {
    "unetpp": ("preprocessing", "deep_supervision"),
    "deeplabv3plus": ("preprocessing", "output_stride", "dilation_rates", "align_corners"),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how they are split.

    Raises:
        InputError: a pattern of names that cannot be used.
    """

    data: str = "data/deepglobe"  # folder or zip of the raw archive, or "demo"
    cache_dir: str = "data/tfds"  # where prepared data sets are kept
    # What files are called, by default as in DeepGlobe; the `*` is the image's id. Folders may come
    # before, as in "images/*.tif" and "labels/*_gt.png".
    image_glob: str = "*_sat.jpg"
    mask_pattern: str = "*_mask.png"
    split_files: str | None = None  # folder of split lists; None: a seeded random split
    map_color: tuple[str, ...] = ()  # "R,G,B=CLASS": colours outside the class table
    demo_count: int = 160  # scenes of `data="demo"`
    demo_size: int = 256  # side of a scene, pixels

    def __post_init__(self) -> None:
        FileNames.parse(self.image_glob, self.mask_pattern)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The defaults are the recipe `default` with everything trained.

    Raises:
        InputError: a value that cannot be used.
    """

    data: DataConfig = field(default_factory=DataConfig)

    # The network
    arch: str = "unetpp"
    encoder: str = "resnet101"
    encoder_weights: str | None = "imagenet"  # "imagenet", None (random) or a file
    preprocessing: str | None = None  # None: the encoder's own; a model from elsewhere may differ
    output_stride: int = 16  # DeepLabV3+ alone: 16 or 8
    dilation_rates: tuple[int, ...] | None = None  # DeepLabV3+ alone; None: by the output stride
    align_corners: bool = False  # DeepLabV3+ alone; True in models from PyTorch
    deep_supervision: bool = False  # UNet++ alone

    # The training
    recipe: str = "default"
    regime: str = "finetune"
    image_size: int = 512  # side of the square that the network trains on, pixels; the original's
    # "whole": images resized to the square, as in the original, at a fifth of their resolution;
    # "crops": squares cut out at their own resolution.
    framing: str = "crops"
    # Random enlargement of a crop, smallest and largest. 1 leaves it as it is: images that share
    # one resolution, as DeepGlobe's, gain nothing from more (docs/recipe.md). Those of several do:
    # DeepLabV3, section 4.1, takes 0.5 to 2 (https://arxiv.org/abs/1706.05587).
    crop_scale: tuple[float, float] = (1.0, 1.0)
    # Share of crops that are put on a pixel of a class drawn by rarity instead of anywhere; half of
    # them, as the class uniform sampling of Zhu et al. 2019, section 3.3
    # (https://arxiv.org/abs/1812.01593).
    rare_class_share: float = 0.5
    batch_size: int = 8  # images a step, over all devices; the original's 7, made divisible
    epochs: int = 100  # the original's
    frozen_epochs: int = 10  # `gradual` alone: epochs before the encoder trains too
    patience: int = 20  # epochs without a better `monitor` before training ends; the original's
    monitor: str = "val_mean_iou"  # the score that makes the best weights; higher is better
    # The sum that is the most robust over data sets in Ma et al. 2021, Loss odyssey
    # (https://doi.org/10.1016/j.media.2021.102035).
    loss: str = "cross_entropy+dice"
    # "none", "inverse_frequency", "median_frequency" or a number for each class
    class_weights: str | tuple[float, ...] = "none"
    label_smoothing: float = 0.0  # of cross entropy and focal loss, in [0, 1)
    # The class whose pixels weigh nothing in loss and `monitor`, where the data set has it; None:
    # no class. The challenge does not score `unknown` (https://arxiv.org/abs/1805.06561).
    ignore_class: str | None = UNKNOWN
    learning_rate: float = 1e-4  # its largest value
    # The encoder's learning rate as a share of the others'. The same one: a lower one for layers
    # that are trained already (Howard & Ruder 2018, section 3.2, https://arxiv.org/abs/1801.06146)
    # brought nothing (docs/recipe.md).
    encoder_rate: float = 1.0
    # Cosine decay to 0 after a linear warm-up (Loshchilov & Hutter 2017,
    # https://arxiv.org/abs/1608.03983): no rate to be found for each length of training.
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 1e-2  # AdamW's, decoupled (https://arxiv.org/abs/1711.05101)
    # Of the moving average of the weights that is scored and saved, for each step, such as 0.999
    # (Tarvainen & Valpola 2017, section 2, https://arxiv.org/abs/1703.01780). 0: the weights
    # themselves, since it brought nothing beside cosine decay (docs/recipe.md).
    ema_decay: float = 0.0
    precision: str = "float32"
    # Whether XLA compiles the training and validation steps. "auto": Keras' choice, which is yes on
    # a single GPU and no on the CPU and under several replicas; "on" or "off": for all devices.
    xla: str = "auto"
    seed: int = 0  # of weights, order and augmentation; the split does not depend on it

    def __post_init__(self) -> None:
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
                "`crop_scale` must be the smallest and the largest enlargement of a crop, within "
                f"1/16 and 16, such as 0.5 2. Received: {self.crop_scale}."
            )
        self._check_loss()
        self._check_network()
        if not 0 <= self.seed < 2**32:
            raise InputError(f"`seed` must be in [0, 2**32). Received: {self.seed}.")
        if self.regime == "gradual" and not 0 < self.frozen_epochs < self.epochs:
            raise InputError(
                "The regime `gradual` needs epochs with the encoder frozen and epochs without. "
                f"Received: frozen_epochs={self.frozen_epochs}, epochs={self.epochs}. "
                f"Use more than {self.frozen_epochs} epochs, or fewer `--frozen-epochs`."
            )

    def _check_loss(self) -> None:
        weights = self.class_weights
        if isinstance(weights, str):
            _check_choice("class_weights", weights, CLASS_WEIGHTS)
            weights = None
        check_loss(self.loss, class_weights=weights, label_smoothing=self.label_smoothing)

    def _check_network(self) -> None:
        allowed = OPTIONS_OF.get(self.arch, ())
        for name in sorted({name for names in OPTIONS_OF.values() for name in names}):
            default = type(self).__dataclass_fields__[name].default
            if name not in allowed and getattr(self, name) != default:
                owners = [arch for arch, names in OPTIONS_OF.items() if name in names]
                raise InputError(
                    f"`{name}` is an option of {' and '.join(owners)} alone. Received: "
                    f"{name}={getattr(self, name)!r}, arch={self.arch!r}. Leave it out."
                )
        divisor = size_divisor_of(self.arch, self.output_stride)
        check_image_size(self.image_size, self.image_size, divisor)

    def model_options(self) -> dict:
        """Keyword arguments of the architecture's function, but for the weights it starts from."""
        options = {name: getattr(self, name) for name in OPTIONS_OF.get(self.arch, ())}
        return {"encoder": self.encoder} | options

    def to_json(self) -> dict:
        """All fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "TrainConfig":
        """The inverse of `to_json`.

        Raises:
            InputError: fields that this version does not know, or lacks.
        """
        try:
            data = _from_json(DataConfig, NAMES_BEFORE | values["data"])
            return _from_json(cls, FIELDS_BEFORE | values | {"data": data})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The configuration is not one of this version of lcc_tf: {error}."
            ) from error


def _from_json(cls: type, values: dict) -> object:
    """Makes a dataclass of JSON values, none of which may be missing: defaults change."""
    if lacking := {field.name for field in dataclasses.fields(cls)} - set(values):
        raise KeyError(f"it lacks {sorted(lacking)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def from_recipe(
    recipe: str, *, arch: str, regime: str = "finetune", **overrides: object
) -> TrainConfig:
    """Fills in a recipe.

    Args:
        recipe: "default", or "seed": the original's to the letter, for the regimes that it has.
        arch: a key of `ARCHITECTURES`.
        regime: one of `REGIMES`.
        **overrides: fields of `TrainConfig` that the user set.

    Raises:
        InputError: unknown recipe, a regime that the original does not have, or a bad value.
    """
    _check_choice("recipe", recipe, ("default", "seed"))
    fields: dict = {}
    if recipe == "seed":
        if regime == "gradual":
            raise InputError(
                "The original trains all layers or freezes the encoder. Received: "
                "recipe='seed', regime='gradual'. Use `--regime finetune` or `frozen`, or "
                "`--recipe default`."
            )
        fields = {
            "image_size": 512,
            "framing": "whole",
            "batch_size": 7,
            "loss": "dice",
            "ignore_class": None,
            "learning_rate": 1e-5,
            "schedule": "constant",
            "monitor": "val_iou",
        }
        if regime == "finetune":
            # PyTorch's default weight decay of AdamW, which the original left in place.
            fields |= {"epochs": 100, "patience": 20, "weight_decay": 1e-2}
        else:
            patience = 50 if arch == "unetpp" else 30
            fields |= {"epochs": 500, "patience": patience, "weight_decay": 1e-4}
    return TrainConfig(**fields | {"recipe": recipe, "arch": arch, "regime": regime} | overrides)


def _check_choice(name: str, value: object, choices: object) -> None:
    if value not in choices:
        raise InputError(f"Unknown `{name}`. Received: {value!r}. Choose one of {list(choices)}.")


def from_options(options: dict, *, earlier: TrainConfig | None = None) -> TrainConfig:
    """Makes a configuration of what the user gave on the command line.

    Args:
        options: fields of `TrainConfig` and `DataConfig` that were given, by their names.
        earlier: the configuration of a run that is to go on; it fills in what was not given. None
            for the recipe.

    Raises:
        InputError: a value that cannot be used.
    """
    names = {data_field.name for data_field in dataclasses.fields(DataConfig)}
    data = {name: value for name, value in options.items() if name in names}
    if "map_color" in data:
        data["map_color"] = tuple(data["map_color"])
    rest = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name not in names
    }
    if earlier:
        return dataclasses.replace(earlier, **rest, data=dataclasses.replace(earlier.data, **data))
    arch = rest.pop("arch", TrainConfig.arch)
    recipe = rest.pop("recipe", TrainConfig.recipe)
    return from_recipe(recipe, arch=arch, **rest, data=DataConfig(**data))
