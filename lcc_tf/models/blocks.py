"""Building blocks that the decoders share.

The blocks have the same settings as the decoders of the original PyTorch notebooks:

- The epsilon of batch normalization is 1e-5, the default of PyTorch.
- The momentum of batch normalization is 0.9. PyTorch's default of 0.1 means the same, because
  PyTorch defines the momentum as 1 minus the momentum of Keras.
- The initial weights of the convolutions are He-uniform.
"""

import keras

from lcc_tf.models.convolutions import AtrousSeparableConv2D, NodeConv2D
from lcc_tf.models.normalization import BatchNormalization


def batch_norm_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Applies the layers `<name>_bn` (batch normalization) and `<name>_relu` (ReLU)."""
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, name: str
) -> keras.KerasTensor:
    """Applies a convolution (without bias), then batch normalization and ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: number of output channels.
        kernel_size: side of the kernel, pixels.
        name: name of the convolution. Batch normalization is named `<name>_bn`, and ReLU
            `<name>_relu`.
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


def node_conv_bn_relu(
    maps: list[keras.KerasTensor], filters: int, *, name: str
) -> keras.KerasTensor:
    """Upsamples a feature map, concatenates it with others, and applies `conv_bn_relu`.

    Args:
        maps: the map to upsample by 2, and any number of other maps, see `NodeConv2D`.
        filters: number of output channels.
        name: name of the convolution, see `conv_bn_relu`.
    """
    x = NodeConv2D(filters, kernel_initializer="he_uniform", name=name)(maps)
    return batch_norm_relu(x, name)


def separable_conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, dilation_rate: int = 1, name: str
) -> keras.KerasTensor:
    """Applies a separable convolution (without bias), then batch normalization and ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: number of output channels.
        kernel_size: side of the depthwise kernel, pixels.
        dilation_rate: distance between neighboring elements of the depthwise kernel, pixels.
        name: name of the convolution. Batch normalization is named `<name>_bn`, and ReLU
            `<name>_relu`.
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
    """Applies the head, a convolution (with bias) that returns one logit per class.

    The logits are float32, even under a mixed-precision policy.
    """
    return keras.layers.Conv2D(
        num_classes, kernel_size, padding="same", dtype="float32", name=name
    )(x)
