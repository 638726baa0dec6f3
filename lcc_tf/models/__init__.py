"""Segmentation networks as functional Keras models, made by one function each."""

import keras

from lcc_tf.models.deeplabv3plus import deeplabv3plus
from lcc_tf.models.encoders import ENCODERS, build_encoder
from lcc_tf.models.ensemble import ensemble
from lcc_tf.models.unetpp import unetpp
from tfds_deepglobe.errors import InputError

ARCHITECTURES = {"unetpp": unetpp, "deeplabv3plus": deeplabv3plus}

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "build_encoder",
    "build_model",
    "deeplabv3plus",
    "ensemble",
    "unetpp",
]


def build_model(arch: str, num_classes: int, **options: object) -> keras.Model:
    """Builds a network by its name.

    Args:
        arch: a key of `ARCHITECTURES`.
        num_classes: number of output channels.
        **options: keyword arguments of the architecture's function.

    Raises:
        InputError: unknown architecture, or what its function raises.
    """
    if arch not in ARCHITECTURES:
        raise InputError(
            f"Unknown architecture. Received: {arch!r}. Choose one of {list(ARCHITECTURES)}."
        )
    return ARCHITECTURES[arch](num_classes, **options)
