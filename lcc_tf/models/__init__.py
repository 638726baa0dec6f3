"""Segmentation networks: functions that build functional Keras models.

When this package is imported, it registers all layers, losses and metrics of `lcc_tf` with Keras.
Therefore `keras.saving.load_model` can find them.
"""

from collections.abc import Callable

from lcc_tf import losses, metrics  # noqa: F401 (the import registers both with Keras)
from lcc_tf.errors import InputError
from lcc_tf.keras_backend import keras
from lcc_tf.models.deeplabv3plus import DeepLabV3Plus
from lcc_tf.models.encoder_specs import ENCODERS
from lcc_tf.models.encoders import NEW_BANDS, build_encoder
from lcc_tf.models.ensembles import ensemble
from lcc_tf.models.model_outputs import outputs_probabilities
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.models.segmentation_models import (
    BASELINE_ENCODERS,
    BASELINES,
    FPN,
    Linknet,
    PSPNet,
    UNet,
)
from lcc_tf.models.torch_files import read_torch_weights
from lcc_tf.models.torch_weights import load_torch_state_dict
from lcc_tf.models.unetpp import UNetPlusPlus

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "unetpp": UNetPlusPlus,
    "deeplabv3plus": DeepLabV3Plus,
    "unet": UNet,
    "fpn": FPN,
    "linknet": Linknet,
    "pspnet": PSPNet,
}

__all__ = [
    "ARCHITECTURES",
    "DeepLabV3Plus",
    "ENCODERS",
    "FPN",
    "Linknet",
    "NEW_BANDS",
    "PSPNet",
    "UNet",
    "UNetPlusPlus",
    "build_encoder",
    "build_model",
    "encoders_of",
    "ensemble",
    "load_torch_state_dict",
    "outputs_probabilities",
    "read_torch_weights",
    "size_divisor",
    "size_divisor_of",
]


def encoders_of(arch: str) -> tuple[str, ...]:
    """Returns the names of the encoders that an architecture accepts.

    Example:
        >>> "resnet50" in encoders_of("unetpp")
        True
    """
    return tuple(BASELINE_ENCODERS if arch in BASELINES else ENCODERS)


def size_divisor_of(arch: str, output_stride: int) -> int:
    """Returns the required divisor of image height and width for an architecture.

    Args:
        arch: a key of `ARCHITECTURES`.
        output_stride: output stride of DeepLabV3+, 16 or 8. Other architectures ignore this
            argument.

    Example:
        >>> size_divisor_of("deeplabv3plus", 16)
        16
    """
    if arch in BASELINES:
        return BASELINES[arch].size_divisor
    return output_stride if arch == "deeplabv3plus" else 32


def build_model(arch: str, num_classes: int, **options: object) -> keras.Model:
    """Builds the network of an architecture.

    Args:
        arch: a key of `ARCHITECTURES`.
        num_classes: number of output channels, 2 or more.
        **options: keyword arguments of the function that builds the architecture, for example
            `encoder` of `UNetPlusPlus`.

    Raises:
        InputError: the architecture is unknown, or its function rejects an argument.

    Example:
        >>> model = build_model("unetpp", 7, encoder="resnet18_v1.5", encoder_weights=None)
        >>> model.output_shape
        (None, None, None, 7)
    """
    if arch not in ARCHITECTURES:
        raise InputError(
            f"Unknown architecture. Received: {arch!r}. Choose one of {list(ARCHITECTURES)}."
        )
    return ARCHITECTURES[arch](num_classes, **options)
