"""Segmentation networks as functional Keras models, made by one function each."""

from lcc_tf.errors import InputError
from lcc_tf.keras_backend import keras
from lcc_tf.models.deeplabv3plus import deeplabv3plus
from lcc_tf.models.encoders import ENCODERS, build_encoder
from lcc_tf.models.ensemble import ensemble
from lcc_tf.models.segmentation_models import (
    BASELINE_ENCODERS,
    BASELINES,
    fpn,
    linknet,
    pspnet,
    unet,
)
from lcc_tf.models.torch_weights import load_torch_state_dict
from lcc_tf.models.unetpp import unetpp

ARCHITECTURES = {
    "unetpp": unetpp,
    "deeplabv3plus": deeplabv3plus,
    "unet": unet,
    "fpn": fpn,
    "linknet": linknet,
    "pspnet": pspnet,
}

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "build_encoder",
    "build_model",
    "deeplabv3plus",
    "encoders_of",
    "ensemble",
    "fpn",
    "linknet",
    "load_torch_state_dict",
    "pspnet",
    "size_divisor_of",
    "unet",
    "unetpp",
]


def encoders_of(arch: str) -> tuple[str, ...]:
    """Names of the encoders that an architecture takes."""
    return tuple(BASELINE_ENCODERS if arch in BASELINES else ENCODERS)


def size_divisor_of(arch: str, output_stride: int) -> int:
    """The number that height and width of an architecture's images must be divisible by."""
    if arch in BASELINES:
        return BASELINES[arch].size_divisor
    return output_stride if arch == "deeplabv3plus" else 32


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
