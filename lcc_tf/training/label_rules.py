"""Number of classes, ignored class and class weights of a training."""

from dataclasses import dataclass

import tensorflow_datasets as tfds

from lcc_tf.class_weights import class_weights_from_pixels
from lcc_tf.config import TrainConfig
from lcc_tf.data.dataset import class_table
from lcc_tf.data.statistics import class_pixels
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import UNKNOWN


@dataclass(frozen=True)
class LabelRules:
    """Number of classes, ignored class and class weights."""

    num_classes: int
    ignore_class: int | None = None  # class id that loss and training scores ignore, or None
    class_weights: tuple[float, ...] | None = None  # one per class; None for equal weights


def label_rules_of(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> LabelRules:
    """Returns the label rules of a configuration for a data set.

    Args:
        config: configuration with the class weights and the name of the ignored class.
        builder: builder of a prepared data set.

    Raises:
        InputError: one of the following is wrong.

            - The data set has a single class.
            - The data set lacks the class to ignore.
            - The number of class weights differs from the number of classes.
    """
    classes = class_table(builder)
    names = classes.names
    if len(names) < 2:
        raise InputError(
            "Training needs at least two classes. Received: a data set with the class "
            f"{names[0]!r} only. List at least two classes in class_dict.csv of the data set."
        )
    ignore_class = None
    if config.ignore_class in names:
        ignore_class = names.index(config.ignore_class)
    elif config.ignore_class == UNKNOWN:  # the default; the class may be absent
        ignore_class = classes.unknown_id
    elif config.ignore_class is not None:
        raise InputError(
            f"The data set has no class {config.ignore_class!r} to ignore. Received: "
            f"ignore_class={config.ignore_class!r}. Choose one of {list(names)}, or "
            "`ignore_class=None`."
        )
    weights = config.class_weights
    if weights == "none":
        return LabelRules(len(names), ignore_class)
    if isinstance(weights, str):
        weights = tuple(
            class_weights_from_pixels(
                class_pixels(builder), weights, ignore_class=ignore_class
            ).tolist()
        )
        shown = (f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
        print(f"class weights: {', '.join(shown)}")
    if len(weights) != len(names):
        raise InputError(
            f"`class_weights` needs one number for each of the {len(names)} classes "
            f"{list(names)}. Received: {weights}."
        )
    return LabelRules(len(names), ignore_class, weights)
