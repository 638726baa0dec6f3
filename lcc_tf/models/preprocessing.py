"""Preprocessing inside the networks, and the image sizes that they accept."""

import keras
from keras.applications import imagenet_utils

from lcc_tf.errors import InputError
from lcc_tf.models.layers import all_layers

# What "torch" preprocessing subtracts and divides by, for RGB in [0, 1]
IMAGENET_STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# Keras' own modes; "torch_255", the statistics of "torch" applied to [0, 255], as an example of smp
# does (https://github.com/qubvel-org/segmentation_models.pytorch/issues/1224); "unit", [0, 1];
# "none", [0, 255] as it comes; "tf_128", EfficientNetV2-S' own.
PREPROCESSING_MODES = ("caffe", "tf", "torch", "torch_255", "unit", "none", "tf_128")


@keras.saving.register_keras_serializable("lcc_tf")
class EncoderPreprocessing(keras.layers.Layer):
    """Turns RGB in [0, 255] into what the encoder's ImageNet weights expect.

    It stays in float32 under a mixed precision policy: bfloat16 has 8 bits of mantissa, too few
    for 8-bit pixels minus a mean. Sizes known when it is called are checked here, the one place
    that every image passes.

    Args:
        mode: "caffe" (BGR minus mean), "tf" (to [-1, 1]) or "torch" (to [0, 1], minus mean, divided
            by standard deviation), as in `keras.applications.imagenet_utils.preprocess_input`;
            "torch_255" (as "torch", but not brought to [0, 1] first), "unit" (to [0, 1]), "none"
            (as it comes), or "tf_128" (divided by 128, minus 1).
        size_divisor: height and width must be divisible by it, the network's largest stride.

    Raises:
        InputError: unknown mode; an image's height or width is not divisible by `size_divisor`.
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
        """Preprocesses float32 `(batch, height, width, 3)`."""
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
        """Returns the shape unchanged; checks the size as well."""
        check_image_size(input_shape[1], input_shape[2], self.size_divisor)
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("dtype")
        return config | {"mode": self.mode, "size_divisor": self.size_divisor}


def check_image_size(height: int | None, width: int | None, divisor: int) -> None:
    """Checks that an image fits the network's strides.

    Args:
        height: pixels; None while unknown.
        width: pixels; None while unknown.
        divisor: the network's largest stride.

    Raises:
        InputError: height or width is not divisible by `divisor`.
    """
    if any(size is not None and size % divisor for size in (height, width)):
        nearest = [
            None if size is None else max(divisor, round(size / divisor) * divisor)
            for size in (height, width)
        ]
        raise InputError(
            f"Height and width must be divisible by {divisor}, the network's largest stride, so "
            f"that its features align. Received: height={height}, width={width}. "
            f"Resize or pad to {nearest[0]}x{nearest[1]}."
        )


def size_divisor(model: keras.Model) -> int:
    """Returns the number that height and width of a model's images must be divisible by.

    That is the largest `size_divisor` of its `EncoderPreprocessing` layers, at any depth; 1 for
    models without one.
    """
    divisors = [
        layer.size_divisor for layer in all_layers(model) if isinstance(layer, EncoderPreprocessing)
    ]
    return max(divisors, default=1)
