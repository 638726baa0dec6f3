"""Everything a training run is made of, and the recipes that fill it in."""

import dataclasses
from dataclasses import dataclass, field

from lcc_tf.losses import LOSSES
from lcc_tf.models import ARCHITECTURES, ENCODERS
from lcc_tf.models.encoders import check_image_size
from tfds_deepglobe.errors import InputError

REGIMES = ("finetune", "frozen", "gradual")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how they are split."""

    data: str = "data/deepglobe"  # folder or zip of the raw archive, or "demo"
    cache_dir: str = "data/tfds"  # where prepared data sets are kept
    split_files: str | None = None  # folder of split lists; None: a seeded random split
    map_color: tuple[str, ...] = ()  # "R,G,B=CLASS": colours outside the class table
    demo_count: int = 160  # scenes of `data="demo"`
    demo_size: int = 256  # side of a scene, pixels


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
    output_stride: int = 16  # DeepLabV3+ alone: 16 or 8
    deep_supervision: bool = False  # UNet++ alone

    # The training
    recipe: str = "default"
    regime: str = "finetune"
    image_size: int = 512  # side of the square that images are resized to, pixels; the original's
    batch_size: int = 8  # images a step, over all devices
    epochs: int = 100
    frozen_epochs: int = 10  # `gradual` alone: epochs before the encoder trains too
    patience: int = 20  # epochs without a better `monitor` before training ends
    monitor: str = "val_mean_iou"  # the score that makes the best weights; higher is better
    loss: str = "cross_entropy+dice"
    learning_rate: float = 1e-4  # its largest value
    # Cosine decay to 0 after a linear warm-up (Loshchilov & Hutter 2017,
    # https://arxiv.org/abs/1608.03983): no rate to be found for each length of training.
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 1e-2  # AdamW's, decoupled (https://arxiv.org/abs/1711.05101)
    precision: str = "float32"
    seed: int = 0  # of weights, order and augmentation; the split does not depend on it

    def __post_init__(self) -> None:
        _check_choice("arch", self.arch, ARCHITECTURES)
        _check_choice("encoder", self.encoder, ENCODERS)
        _check_choice("regime", self.regime, REGIMES)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("schedule", self.schedule, ("cosine", "constant"))
        for name in ("image_size", "batch_size", "epochs", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"`{name}` must be larger than 0. Received: {getattr(self, name)}."
                )
        stride = self.output_stride if self.arch == "deeplabv3plus" else 32
        check_image_size(self.image_size, self.image_size, stride)
        if not 0 <= self.seed < 2**32:
            raise InputError(f"`seed` must be in [0, 2**32). Received: {self.seed}.")
        if self.deep_supervision and self.arch != "unetpp":
            raise InputError(
                "Deep supervision needs the nested nodes of UNet++. "
                f"Received: arch={self.arch!r}. Use `--arch unetpp` or leave it out."
            )
        if self.output_stride != 16 and self.arch != "deeplabv3plus":
            raise InputError(
                "`output_stride` is an option of DeepLabV3+ alone. Received: "
                f"output_stride={self.output_stride}, arch={self.arch!r}. Leave it out."
            )
        if self.regime == "gradual" and not 0 < self.frozen_epochs < self.epochs:
            raise InputError(
                "The regime `gradual` needs epochs with the encoder frozen and epochs without. "
                f"Received: frozen_epochs={self.frozen_epochs}, epochs={self.epochs}. "
                f"Use more than {self.frozen_epochs} epochs, or fewer `--frozen-epochs`."
            )

    def model_options(self) -> dict:
        """Keyword arguments of the architecture's function, but for the weights it starts from."""
        options: dict = {"encoder": self.encoder}
        if self.arch == "unetpp":
            options["deep_supervision"] = self.deep_supervision
        if self.arch == "deeplabv3plus":
            options["output_stride"] = self.output_stride
        return options

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
            data = values["data"] | {"map_color": tuple(values["data"]["map_color"])}
            return cls(**values | {"data": DataConfig(**data)})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The configuration is not one of this version of lcc_tf: {error}."
            ) from error


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
            "batch_size": 7,
            "loss": "dice",
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
    rest = {name: value for name, value in options.items() if name not in names}
    if earlier:
        return dataclasses.replace(earlier, **rest, data=dataclasses.replace(earlier.data, **data))
    arch = rest.pop("arch", TrainConfig.arch)
    recipe = rest.pop("recipe", TrainConfig.recipe)
    return from_recipe(recipe, arch=arch, **rest, data=DataConfig(**data))
