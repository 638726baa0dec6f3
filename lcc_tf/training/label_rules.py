"""Number of classes, ignored class and class weights."""

from dataclasses import dataclass

import tensorflow_datasets as tfds

from lcc_tf.config import TrainConfig
from lcc_tf.data.dataset import class_table
from lcc_tf.data.statistics import class_pixels
from lcc_tf.errors import InputError
from lcc_tf.losses import class_weights_from_pixels
from tfds_deepglobe.classes import UNKNOWN


@dataclass(frozen=True)
class Truth:
    """What of the class ids counts, and how much."""

    num_classes: int
    ignored: int | None  # the class id that weighs nothing
    weights: tuple[float, ...] | None  # of each class in the loss; None: equal


def truth_of(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> Truth:
    """What a configuration's class weights and ignored class mean for a data set.

    Raises:
        InputError: a single class, one to ignore that the data set does not have, or too few or
            many weights.
    """
    names = class_table(builder).names
    if len(names) < 2:
        raise InputError(
            f"There is nothing to tell apart: the data set has the class {names[0]!r} alone. List "
            "at least two classes in its class_dict.csv."
        )
    ignored = None
    if config.ignore_class in names:
        ignored = names.index(config.ignore_class)
    elif config.ignore_class not in (None, UNKNOWN):  # the default; not every data set has it
        raise InputError(
            f"The data set has no class {config.ignore_class!r} to ignore. Received: "
            f"ignore_class={config.ignore_class!r}. Choose one of {list(names)}, or `none`."
        )
    weights = config.class_weights
    if weights == "none":
        return Truth(len(names), ignored, None)
    if isinstance(weights, str):
        weights = tuple(
            class_weights_from_pixels(class_pixels(builder), weights, ignore_class=ignored).tolist()
        )
        shown = (f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
        print(f"class weights: {', '.join(shown)}")
    if len(weights) != len(names):
        raise InputError(
            f"`class_weights` needs a number for each of the {len(names)} classes {list(names)}. "
            f"Received: {weights}."
        )
    return Truth(len(names), ignored, weights)
