"""Preprocessing layer of the networks, and checks of the image size."""

from numbers import Integral

import keras
from keras.applications import imagenet_utils

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
    image size, because it is the first layer of each network.

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
    smp example (smp is segmentation_models_pytorch) is described in
    https://github.com/qubvel-org/segmentation_models.pytorch/issues/1224

    Args:
        mode: one of `PREPROCESSING_MODES`.
        size_divisor: largest stride of the network. Image height and width must be divisible by
            this number.

    Raises:
        InputError: the mode is unknown, or an image height or width is not divisible by
            `size_divisor`.

    Example:
        >>> EncoderPreprocessing("unit", size_divisor=1)(np.full((1, 1, 1, 3), 51.0)).numpy()
        array([[[[0.2, 0.2, 0.2]]]], dtype=float32)
    """

    def __init__(self, mode: str, size_divisor: int, **kwargs: object) -> None:
        if mode not in PREPROCESSING_MODES:
            raise InputError(
                f"Unknown preprocessing. Received: {mode!r}. Choose one of {PREPROCESSING_MODES}."
            )
        super().__init__(dtype="float32", **kwargs)
        self.mode = mode
        self.size_divisor = size_divisor

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Preprocesses images, float32 `(batch, height, width, 3)`, RGB in [0, 255]."""
        check_image_size(images.shape[1], images.shape[2], self.size_divisor)
        if self.mode == "none":
            return images
        if self.mode == "unit":
            return images / 255
        if self.mode == "tf_128":
            return images / 128 - 1
        if self.mode == "torch_255":
            return (images - IMAGENET_STATISTICS["mean"]) / IMAGENET_STATISTICS["std"]
        return imagenet_utils.preprocess_input(images, mode=self.mode, data_format="channels_last")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape, after the check of the image size."""
        check_image_size(input_shape[1], input_shape[2], self.size_divisor)
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("dtype")
        return config | {"mode": self.mode, "size_divisor": self.size_divisor}


def check_input_shape(input_shape: tuple[int | None, int | None, int]) -> None:
    """Verifies the argument `input_shape` of a network.

    Raises:
        InputError: `input_shape` is not `(height, width, 3)`.

    Example:
        >>> check_input_shape((None, 64, 3))
    """
    is_shape = isinstance(input_shape, (tuple, list)) and len(input_shape) == 3
    if not is_shape or input_shape[2] != 3 or not all(map(_is_side, input_shape[:2])):
        raise InputError(
            "`input_shape` must be (height, width, 3), because the images are RGB. "
            f"Received: input_shape={input_shape!r}. Use None for a height or width that can vary, "
            "such as (None, None, 3)."
        )


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
