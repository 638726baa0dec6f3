"""Configuration of a training run.

The commands show the defaults of this module in their help texts. To show a help text quickly, this
module imports TensorFlow only when it checks a configuration.

In comments, "the original" means the original PyTorch notebooks, which this package reimplements.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lcc_tf.arguments import check_types
from lcc_tf.errors import InputError
from tfds_deepglobe.bands import parse_bands
from tfds_deepglobe.classes import UNKNOWN
from tfds_deepglobe.file_names import FileNames

# Scores of the validation split that can select the best weights; higher is better
MONITORS = ("val_mean_iou", "val_iou", "val_f1", "val_accuracy", "val_precision", "val_recall")
RECIPES = ("default", "original")
REGIMES = ("finetune", "frozen", "gradual")
FRAMINGS = ("crops", "whole")
CLASS_WEIGHTS = ("none", "inverse_frequency", "median_frequency")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
ON_NAN = ("stop", "skip")
# Key: value of `TrainConfig.xla`. Value: value of Keras' argument `jit_compile`.
XLA = {"auto": "auto", "on": True, "off": False}
MAX_IMAGE_SIZE = 16384  # pixels; one such image has 3 GB as float32 RGB
MAX_CROPS = 1000  # per image and epoch
# Values of fields that are missing in the `config.json` of old runs
OLD_TRAIN_VALUES = {
    "xla": "auto",
    "crops_per_image": 1,
    "scale": "percentile",
    "new_bands": "mean",
    "deterministic": False,
    "checkpoint_minutes": 1.0,
    "accumulate": 1,
    "on_nan": "stop",
}
OLD_DATA_VALUES = {
    "bands": None,
    "image_glob": "*_sat.jpg",
    "mask_pattern": "*_mask.png",
    "split": "random",
    "group_by": "none",
    "merge": (),
    "void": (),
}
# Key: recipe name in old runs. Value: present name of the recipe.
OLD_RECIPES = {"seed": "original"}
# Fields of `TrainConfig` that only these architectures support
MODEL_OPTIONS = {
    "unetpp": ("preprocessing", "deep_supervision"),
    "deeplabv3plus": ("preprocessing", "output_stride", "dilation_rates", "align_corners"),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images and masks, and their split into training, validation and test.

    Raises:
        InputError: a value is invalid.
        tfds_deepglobe.errors.InputError: a name pattern is invalid.
    """

    # Folder or zip file of images and masks, or "demo" for synthetic images
    data: str = "data/deepglobe"
    cache_dir: str = "data/tfds"  # folder of prepared data sets
    # Name patterns of image files and mask files. The `*` in the file name stands for the id of an
    # image. A pattern can contain folders, such as "images/*.tif" and "labels/*_gt.png". None to
    # find the patterns automatically.
    image_glob: str | None = None
    mask_pattern: str | None = None
    # Bands to use, such as "4,3,2,8" or "4=red,3=green,2=blue,8=nir". None for all bands, or for
    # RGB if the images have RGB colors with 8 bits per channel.
    bands: str | None = None
    # "folders": folders such as `train` and `test` are the splits. "random": a random split.
    # "auto": "folders" if such folders exist, otherwise "random".
    split: str = "auto"
    # Folder with one text file of image ids per split, instead of `split`
    split_files: str | None = None
    # Groups of images. A random split puts all images of a group into the same split. "folder": a
    # group is a folder. "100m": a group is georeferenced images at most 100 meters apart. "none":
    # no groups. A regular expression: a group is images whose ids contain the same matching text.
    # "auto": "folder" if there are three or more folders of similar size.
    group_by: str = "auto"
    # Mask colors that are not in the class table, and their classes, in the form "R,G,B=CLASS"
    map_color: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()  # classes to merge, in the form "NEW=A+B"
    # Classes, or values of the masks such as "255", whose pixels have no ground truth. Losses and
    # scores ignore these pixels. The network does not predict these classes or values.
    void: tuple[str, ...] = ()
    demo_count: int = 160  # number of synthetic images, for `data="demo"`
    demo_size: int = 256  # side of a synthetic image, pixels

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("data", "cache_dir", "split_files"):
            if getattr(self, name) == "":
                raise InputError(f"`{name}` must not be empty. Received: {name}=''.")
        FileNames.parse_or_none(self.image_glob, self.mask_pattern)
        if self.bands is not None:
            parse_bands(self.bands)

    def absolute_paths(self) -> dict[str, str]:
        """Returns the absolute paths of the fields that are paths."""
        paths = {"data": self.data, "cache_dir": self.cache_dir, "split_files": self.split_files}
        if self.data == "demo":
            del paths["data"]
        return {name: str(Path(path).absolute()) for name, path in paths.items() if path}

    def with_existing_paths(self, absolute: Mapping[str, str], fingerprint: str | None) -> Self:
        """Replaces relative paths that do not exist in the working directory by absolute paths.

        Args:
            absolute: result of `absolute_paths` in the working directory of the training.
            fingerprint: fingerprint of the data set; None if the fingerprint is unknown. With a
                fingerprint, `cache_dir` is only accepted if it contains this prepared data set.
        """

        def exists(name: str, path: str) -> bool:
            if name == "cache_dir" and fingerprint:
                return any(Path(path).glob(f"*/{fingerprint[:16]}/*/dataset_info.json"))
            return Path(path).exists()

        return dataclasses.replace(
            self,
            **{
                name: absolute[name]
                for name in ("data", "cache_dir", "split_files")
                if name in absolute
                and not exists(name, getattr(self, name))
                and exists(name, absolute[name])
            },
        )


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
    # "imagenet", the path of a weights file, or None for random weights
    encoder_weights: str | None = "imagenet"
    # Preprocessing mode. None for the mode of the encoder. Imported models can need another mode.
    preprocessing: str | None = None
    output_stride: int = 16  # DeepLabV3+ only: 16 or 8
    # DeepLabV3+ only. None for the default rates of the output stride.
    dilation_rates: tuple[int, ...] | None = None
    align_corners: bool = False  # DeepLabV3+ only; True for imported PyTorch models
    deep_supervision: bool = False  # UNet++ only
    # Range of values that is scaled to [0, 255], for images that are not RGB with 8 bits.
    # "percentile" or "minmax": range of each band in the training images. "dtype": range of the
    # dtype. Two numbers, such as "0,3000": range of all bands.
    scale: str = "percentile"
    # Initial weights for bands that are not red, green or blue, "mean" or "zero", see
    # `lcc_tf.models.build_encoder`
    new_bands: str = "mean"

    # Training
    recipe: str = "default"  # one of `RECIPES`, or "imported"
    # "finetune": all layers train. "frozen": all layers except the encoder train. "gradual": first
    # the encoder is frozen, then all layers train.
    regime: str = "finetune"
    image_size: int = 512  # side of the training images, pixels; as in the original
    # "crops": train on crops of `image_size`, at the resolution of the images. "whole": train on
    # whole images that are resized to `image_size`, as in the original. The side of a DeepGlobe
    # image then shrinks to about a fifth.
    framing: str = "crops"
    # Smallest and largest random scale of crops. Random scales did not improve the scores for
    # DeepGlobe, whose images have one resolution (docs/recipe.md). For images of several
    # resolutions, DeepLabV3 uses 0.5 to 2 (https://arxiv.org/abs/1706.05587, section 4.1).
    crop_scale: tuple[float, float] = (1.0, 1.0)
    # Crops of each image in one epoch. None for 1 if the data set is large. For a small data set,
    # None stands for a larger number, so that an epoch has about 50 steps.
    crops_per_image: int | None = None
    # Fraction of crops that must contain a pixel of a randomly selected class. The selection
    # prefers rare classes, which are classes with few pixels. 0.5 is from the class uniform
    # sampling of Zhu et al. 2019 (https://arxiv.org/abs/1812.01593, section 3.3).
    rare_class_share: float = 0.5
    # Images per step, summed over all devices. The original uses 7. A batch of 7 images cannot be
    # divided evenly among 2, 4 or 8 devices. None for the largest number that fits into the memory,
    # at most 32, see `lcc_tf.training.batch_size`.
    batch_size: int | None = 8
    # Steps per update of the weights. An update uses the mean gradient of these steps, as with a
    # larger batch. Batch normalization still uses the images of a single step. One device only.
    accumulate: int = 1
    epochs: int = 100  # as in the original
    frozen_epochs: int = 10  # regime `gradual` only: number of epochs with a frozen encoder
    # The training stops if the averaged `monitor` score has not improved for this number of epochs.
    # The original uses the same number, but with the score of a single epoch.
    patience: int = 20
    # Score that selects the best weights, one of `MONITORS`. The score is averaged over an epoch
    # and the two epochs before, because the score of a single epoch varies at random.
    monitor: str = "val_mean_iou"
    # In Ma et al. 2021, "Loss odyssey", this loss is the most robust on several data sets
    # (https://doi.org/10.1016/j.media.2021.102035).
    loss: str = "cross_entropy+dice"
    # "none", "inverse_frequency", "median_frequency", or one number per class
    class_weights: str | tuple[float, ...] = "none"
    label_smoothing: float = 0.0  # for cross entropy and focal loss, in [0, 1)
    # Class that the loss and the scores during training ignore. None for no class. Only the default
    # class can be missing in the data set. evaluate.py ignores this field and follows a protocol.
    # The DeepGlobe challenge does not score `unknown` (https://arxiv.org/abs/1805.06561).
    ignore_class: str | None = UNKNOWN
    # Largest learning rate of the schedule. With lower values, short trainings end while the scores
    # still improve (docs/recipe.md). The original uses 1e-5.
    learning_rate: float = 1e-3
    # Learning rate of the encoder as a fraction of `learning_rate`. Howard & Ruder 2018 propose
    # lower learning rates for pretrained layers (https://arxiv.org/abs/1801.06146, section 3.2).
    # Here, lower learning rates did not improve the scores (docs/recipe.md).
    encoder_rate: float = 1.0
    # "cosine": a linear warm-up, then a cosine decay to 0 (Loshchilov & Hutter 2017,
    # https://arxiv.org/abs/1608.03983). The same `learning_rate` suits trainings of any length.
    # "constant": the learning rate does not change.
    schedule: str = "cosine"
    weight_decay: float = 1e-2  # decoupled weight decay of AdamW, https://arxiv.org/abs/1711.05101
    # Decay per step, such as 0.999, of the moving average of the weights (Tarvainen & Valpola 2017,
    # https://arxiv.org/abs/1703.01780, section 2). The average is used for validation, and is
    # written to the weights files. 0 for no average. With cosine decay, averages did not improve
    # the scores (docs/recipe.md).
    ema_decay: float = 0.0
    # One of `PRECISIONS`, or "auto". "auto" is "mixed_bfloat16" if this is expected to be faster on
    # this machine. Otherwise, "auto" is "float32", see `lcc_tf.training.precision`. The run stores
    # the chosen precision.
    precision: str = "float32"
    # Compilation of training and validation steps with XLA: "on", "off" or "auto". "auto" is "on"
    # for a single GPU, and "off" for the CPU and for several devices.
    xla: str = "auto"
    seed: int = 0  # random seed of weights, image order and augmentation, but not of the split
    # True for operations whose results do not depend on the order of parallel computations. They
    # are slower. On a CPU, the default operations were also deterministic in all tests.
    deterministic: bool = False
    # Time between two checkpoints, minutes. A killed training loses at most about this time.
    checkpoint_minutes: float = 1.0
    # If the loss or its gradient is not a finite number: "stop" ends the training. "skip" undoes
    # the step and continues; then each step keeps a copy of all variables.
    on_nan: str = "stop"

    def __post_init__(self) -> None:
        from lcc_tf.bands import parse_scale
        from lcc_tf.models import ARCHITECTURES, NEW_BANDS, encoders_of

        check_types(self)
        check_choice("recipe", self.recipe, (*RECIPES, "imported"))
        check_choice("arch", self.arch, ARCHITECTURES)
        check_choice("encoder", self.encoder, encoders_of(self.arch))
        check_choice("regime", self.regime, REGIMES)
        check_choice("framing", self.framing, FRAMINGS)
        check_choice("precision", self.precision, (*PRECISIONS, "auto"))
        check_choice("xla", self.xla, XLA)
        check_choice("monitor", self.monitor, MONITORS)
        check_choice("schedule", self.schedule, ("cosine", "constant"))
        check_choice("new_bands", self.new_bands, NEW_BANDS)
        parse_scale(self.scale)
        check_choice("on_nan", self.on_nan, ON_NAN)
        for name in (
            "image_size",
            "batch_size",
            "accumulate",
            "epochs",
            "patience",
            "learning_rate",
            "checkpoint_minutes",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"`{name}` must be larger than 0. Received: {value}.")
        for name in ("rare_class_share", "encoder_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be in [0, 1]. Received: {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"`ema_decay` must be in [0, 1). Received: {self.ema_decay}.")
        if self.image_size > MAX_IMAGE_SIZE:
            raise InputError(
                f"`image_size` must be at most {MAX_IMAGE_SIZE} pixels. "
                f"Received: {self.image_size}."
            )
        if self.weight_decay < 0:
            raise InputError(f"`weight_decay` must be 0 or more. Received: {self.weight_decay}.")
        if not 1 / 16 <= self.crop_scale[0] <= self.crop_scale[1] <= 16:
            raise InputError(
                "`crop_scale` must be the smallest and the largest scale of crops, in [1/16, 16], "
                f"for example 0.5 and 2. Received: {self.crop_scale}."
            )
        if self.crops_per_image is not None and not 1 <= self.crops_per_image <= MAX_CROPS:
            raise InputError(
                f"`crops_per_image` must be in [1, {MAX_CROPS}], or None. Received: "
                f"{self.crops_per_image}."
            )
        if self.framing == "whole" and self.crops_per_image not in (None, 1):
            raise InputError(
                "`framing='whole'` trains on whole images, without crops. Received: "
                f"crops_per_image={self.crops_per_image}. Omit `crops_per_image`, or use "
                "`framing='crops'`."
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
                    f"{option.name}={value!r}, arch={self.arch!r}. Omit `{option.name}`, or choose "
                    "another `arch`."
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
        # `item` converts a NumPy number to a Python number.
        text = json.dumps(dataclasses.asdict(self), default=lambda number: number.item())
        return json.loads(text)

    @classmethod
    def from_json(cls, values: dict) -> "TrainConfig":
        """Makes a configuration from a result of `to_json`, also of an earlier version.

        Raises:
            InputError: a field is missing, or this version does not know a field.
        """
        try:
            data = _from_json(DataConfig, OLD_DATA_VALUES | values["data"])
            recipe = OLD_RECIPES.get(values["recipe"], values["recipe"])
            return _from_json(cls, OLD_TRAIN_VALUES | values | {"data": data, "recipe": recipe})
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                "The configuration is from another version of lcc_tf. "
                f"Received: {error}. Use the version of lcc_tf that is written in config.json."
            ) from error


def _from_json(cls: type, values: dict) -> object:
    """Makes a dataclass from JSON values.

    All fields must have a value, because default values differ between versions.
    """
    if missing := {field.name for field in dataclasses.fields(cls)} - set(values):
        raise KeyError(f"missing fields {sorted(missing)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Checks the value of an argument that has a list of choices.

    Raises:
        InputError: the value is not one of the choices.
    """
    if value not in choices:
        raise InputError(f"Unknown `{name}`. Received: {value!r}. Choose one of {list(choices)}.")
