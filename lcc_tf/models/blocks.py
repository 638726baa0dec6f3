"""Building blocks that the decoders share.

As in the decoders of the original, batch normalization has PyTorch's settings (epsilon 1e-5;
momentum 0.9 by Keras' definition) and convolutions start with He-uniform weights.
"""

import keras

from lcc_tf.errors import InputError
from lcc_tf.models.convolutions import AtrousSeparableConv2D


def batch_norm_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Applies batch normalization and ReLU, named `<name>_bn` and `<name>_relu`."""
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, name: str
) -> keras.KerasTensor:
    """Applies a convolution without bias, batch normalization and ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: output channels.
        kernel_size: side of the kernel, pixels.
        name: name of the convolution; the other layers are `<name>_bn` and `<name>_relu`.
    """
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer="he_uniform",
        name=name,
    )(x)
    return batch_norm_relu(x, name)


def separable_conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, dilation_rate: int = 1, name: str
) -> keras.KerasTensor:
    """Applies a separable convolution without bias, batch normalization and ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: output channels.
        kernel_size: side of the depthwise kernel, pixels.
        dilation_rate: distance between neighboring elements of the depthwise kernel, pixels.
        name: name of the convolution; the other layers are `<name>_bn` and `<name>_relu`.
    """
    x = AtrousSeparableConv2D(
        filters,
        kernel_size,
        padding="same",
        dilation_rate=dilation_rate,
        use_bias=False,
        depthwise_initializer="he_uniform",
        pointwise_initializer="he_uniform",
        name=name,
    )(x)
    return batch_norm_relu(x, name)


def segmentation_logits(
    x: keras.KerasTensor, num_classes: int, kernel_size: int, *, name: str = "head_logits"
) -> keras.KerasTensor:
    """Applies the head: a convolution with bias to one logit per class.

    The logits are float32 under every dtype policy.
    """
    return keras.layers.Conv2D(
        num_classes, kernel_size, padding="same", dtype="float32", name=name
    )(x)


def check_num_classes(num_classes: int) -> None:
    """Verifies the number of output channels of a network.

    Raises:
        InputError: `num_classes` is below 2, or is not a whole number.
    """
    if num_classes != int(num_classes) or num_classes < 2:
        raise InputError(
            "`num_classes` must be a whole number of at least 2: the network returns one logit per "
            f"class, for a softmax. Received: num_classes={num_classes}. "
            "Use num_classes=2 for a binary task."
        )
