"""Preprocessing layer of the networks, and checks of the image size."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import keras
import numpy as np
from keras.applications import imagenet_utils

from lcc_tf.band_names import COLORS
from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.models.layers import all_layers

# Mean and standard deviation of the mode "torch", for RGB in [0, 1]
IMAGENET_STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PREPROCESSING_MODES = ("caffe", "tf", "torch", "torch_255", "unit", "none", "tf_128")


@keras.saving.register_keras_serializable("lcc_tf")
class EncoderPreprocessing(keras.layers.Layer):
    """Converts RGB in [0, 255] to the values that the encoder's ImageNet weights expect.

    The layer computes in float32, even under a mixed-precision policy. The mantissa of bfloat16 has
    only 8 bits, which is not enough for an 8-bit pixel minus a mean. The layer also verifies the
    image size, because this layer is the first layer of each network.

    | mode | values | used by |
    |---|---|---|
    | "caffe" | BGR minus mean | ResNet of `keras.applications` |
    | "tf" | RGB in [-1, 1] | MobileNetV2 |
    | "tf_128" | RGB / 128 - 1 | EfficientNetV2-S |
    | "torch" | RGB in [0, 1], minus mean, divided by standard deviation | torchvision's ResNets |
    | "torch_255" | RGB in [0, 255], minus mean, divided by standard deviation | an smp example |
    | "unit" | RGB in [0, 1] | models of other software |
    | "none" | RGB in [0, 255] | segmentation-models' ResNets |

    "caffe", "tf" and "torch" are modes of `keras.applications.imagenet_utils.preprocess_input`. The
    example for smp (segmentation_models_pytorch) is described in
    https://github.com/qubvel-org/segmentation_models.pytorch/issues/1224

    With `bands`, the layer first clips each band to its range and scales the range to [0, 255].
    Then a red, green or blue band is preprocessed like the same color of RGB images. The other
    bands are preprocessed like the mean of the three colors. The order of the bands does not
    change, even for "caffe".

    Args:
        mode: one of `PREPROCESSING_MODES`.
        size_divisor: largest stride of the network. Image height and width must be divisible by
            this number.
        bands: bands of the images; None for RGB in [0, 255].

    Raises:
        InputError: the mode is unknown, or an image height or width is not divisible by
            `size_divisor`.

    Example:
        >>> EncoderPreprocessing("unit", size_divisor=1)(np.full((1, 1, 1, 3), 51.0)).numpy()
        array([[[[0.2, 0.2, 0.2]]]], dtype=float32)
    """

    def __init__(
        self,
        mode: str,
        size_divisor: int,
        bands: Bands | Mapping[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        if mode not in PREPROCESSING_MODES:
            raise InputError(
                f"Unknown preprocessing. Received: {mode!r}. Choose one of {PREPROCESSING_MODES}."
            )
        super().__init__(dtype="float32", **kwargs)
        self.mode = mode
        self.size_divisor = size_divisor
        self.bands = Bands(**bands) if isinstance(bands, Mapping) else bands

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Preprocesses images, float32 `(batch, height, width, channels)`."""
        check_image_size(images.shape[1], images.shape[2], self.size_divisor)
        if self.bands:
            low, high = np.array(self.bands.ranges, np.float32).T
            factor, offset = self._affine(self.bands)
            # Subtract `low` first. Otherwise, float32 would be too inaccurate for a small range far
            # from 0.
            return (keras.ops.clip(images, low, high) - low) * factor + offset
        return self._preprocess(images)

    def _preprocess(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Preprocesses RGB in [0, 255]."""
        if self.mode == "none":
            return images
        if self.mode == "unit":
            return images / 255
        if self.mode == "tf_128":
            return images / 128 - 1
        if self.mode == "torch_255":
            return (images - IMAGENET_STATISTICS["mean"]) / IMAGENET_STATISTICS["std"]
        return imagenet_utils.preprocess_input(images, mode=self.mode, data_format="channels_last")

    def _affine(self, bands: Bands) -> tuple[np.ndarray, np.ndarray]:
        """Returns the factors and the offsets of the bands, float32 `(bands,)` each.

        The preprocessed value is (value - low) * factor + offset, with the range [low, high].
        """
        zero, one = (self._preprocess(np.full((1, 3), value)) for value in (0.0, 1.0))
        offsets = np.array(zero, float)[0]
        factors = np.array(one, float)[0] - offsets
        channels = [channels_of(color, self.mode) for color in bands.colors]
        factor, offset = (np.array([v[c].mean() for c in channels]) for v in (factors, offsets))
        low, high = np.array(bands.ranges).T
        scale = 255 / (high - low)
        return (factor * scale).astype(np.float32), offset.astype(np.float32)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape, after the check of the image size."""
        check_image_size(input_shape[1], input_shape[2], self.size_divisor)
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("dtype")
        config |= {"mode": self.mode, "size_divisor": self.size_divisor}
        return config | ({"bands": self.bands.to_json()} if self.bands else {})


def channels_of(color: str | None, mode: str) -> list[int]:
    """Returns the channels of the preprocessed image that contain a color.

    Args:
        color: "red", "green", "blue", or None for all three channels.
        mode: one of `PREPROCESSING_MODES`.
    """
    order = COLORS[::-1] if mode == "caffe" else COLORS
    return [0, 1, 2] if color is None else [order.index(color)]


def input_shape_of(
    input_shape: tuple[int | None, int | None, int] | None, bands: Bands | None = None
) -> tuple[int | None, int | None, int]:
    """Verifies and completes the argument `input_shape` of a network.

    Args:
        input_shape: argument of a network, in pixels; None for images of any size.
        bands: bands of the images; None for RGB.

    Returns:
        `(height, width, channels)`.

    Raises:
        InputError: `bands` is not `lcc_tf.Bands`, or `input_shape` is not `(height, width,
            channels)`, with three channels or one channel per band.

    Example:
        >>> input_shape_of(None), input_shape_of((None, 64, 3))
        ((None, None, 3), (None, 64, 3))
    """
    if not isinstance(bands, Bands | None):
        raise InputError(
            "`bands` must be `lcc_tf.Bands`, or None for RGB. Received: "
            f"{repr(bands)[:100]}. Use, for example, `lcc_tf.Bands(('red', 'nir'), ((0, 1),) * 2)`."
        )
    channels = len(bands) if bands else 3
    if input_shape is None:
        return None, None, channels
    is_shape = isinstance(input_shape, (tuple, list)) and len(input_shape) == 3
    if not is_shape or input_shape[2] != channels or not all(map(_is_side, input_shape[:2])):
        reason = f"there are {channels} `bands`" if bands else "the images are RGB"
        raise InputError(
            f"`input_shape` must be (height, width, {channels}), because {reason}. "
            f"Received: input_shape={input_shape!r}. Use None for a height or width that can vary, "
            f"such as (None, None, {channels})." + " For other images, set `bands`." * (not bands)
        )
    height, width, _ = input_shape
    return height, width, channels


def _is_side(side: object) -> bool:
    return side is None or (isinstance(side, Integral) and int(side) > 0)


def check_image_size(height: int | None, width: int | None, divisor: int) -> None:
    """Verifies that an image's height and width are divisible by a network's largest stride.

    Args:
        height: image height, pixels; None if unknown.
        width: image width, pixels; None if unknown.
        divisor: largest stride of the network.

    Raises:
        InputError: height or width is not divisible by `divisor`.
    """
    if any(size is not None and size % divisor for size in (height, width)):
        nearest = [
            None if size is None else max(divisor, round(size / divisor) * divisor)
            for size in (height, width)
        ]
        raise InputError(
            f"Height and width must be divisible by {divisor}, the network's largest stride. "
            f"Received: height={height}, width={width}. "
            f"Resize or pad to {nearest[0]}x{nearest[1]}."
        )


def bands_of(model: keras.Model) -> Bands | None:
    """Returns the bands of a model's images; None for a model of RGB images."""
    layers = [layer for layer in all_layers(model) if isinstance(layer, EncoderPreprocessing)]
    return layers[0].bands if layers else None


def size_divisor(model: keras.Model) -> int:
    """Returns the required divisor of image height and width for a model.

    The divisor is the largest `size_divisor` of the `EncoderPreprocessing` layers in the model and
    in its nested models. For a model without such a layer, the divisor is 1.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus
        >>> size_divisor(UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None))
        32
    """
    divisors = [
        layer.size_divisor for layer in all_layers(model) if isinstance(layer, EncoderPreprocessing)
    ]
    return max(divisors, default=1)
