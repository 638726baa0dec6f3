"""ResNet with the layers of torchvision ("v1.5") and the layer names of `keras.applications`.

`keras.applications.ResNet50` has the layers of He et al. 2016 (https://arxiv.org/abs/1512.03385).
The ResNets of torchvision cannot use weights for these layers, because they differ in four points:

- A bottleneck block has its stride in the 3x3 convolution, not in the first 1x1 convolution (Goyal
  et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1).
- Strided convolutions are padded on both sides.
- Convolutions have no bias.
- The epsilon of batch normalization is 1e-5.
"""

from typing import NamedTuple

import keras


class ResNetVariant(NamedTuple):
    """Type and number of the blocks of a ResNet."""

    bottleneck: bool  # True: three convolutions per block; False: two
    blocks: tuple[int, ...]  # number of blocks per stage


# He et al. 2016, table 1
RESNETS = {
    "resnet18_v1.5": ResNetVariant(bottleneck=False, blocks=(2, 2, 2, 2)),
    "resnet34_v1.5": ResNetVariant(bottleneck=False, blocks=(3, 4, 6, 3)),
    "resnet50_v1.5": ResNetVariant(bottleneck=True, blocks=(3, 4, 6, 3)),
    "resnet101_v1.5": ResNetVariant(bottleneck=True, blocks=(3, 4, 23, 3)),
    "resnet152_v1.5": ResNetVariant(bottleneck=True, blocks=(3, 8, 36, 3)),
}


def resnet_v1_5(variant: ResNetVariant, input_tensor: keras.KerasTensor) -> keras.Model:
    """Builds a ResNet without its classifier and with random weights.

    Args:
        variant: a value of `RESNETS`.
        input_tensor: float `(batch, height, width, 3)`, preprocessed.

    Returns:
        A model that returns float `(batch, height / 32, width / 32, channels)`, with 512 or 2048
        channels. The input of the model is the `keras.Input` from which `input_tensor` is computed.

    Example:
        >>> resnet_v1_5(RESNETS["resnet18_v1.5"], keras.Input((64, 64, 3))).output_shape
        (None, 2, 2, 512)
    """
    x = _conv_bn(input_tensor, 64, 7, strides=2, name="conv1")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    # PyTorch pads with -inf. Zeros lead to the same maxima, because a ReLU returns no negative
    # values.
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, blocks in enumerate(variant.blocks, start=2):
        x = _stack(x, 2 ** (stage + 4), blocks, variant.bottleneck, name=f"conv{stage}")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _stack(
    x: keras.KerasTensor, filters: int, blocks: int, bottleneck: bool, *, name: str
) -> keras.KerasTensor:
    """Applies a stage of residual blocks; the first block halves the size, except in `conv2`."""
    block = _bottleneck_block if bottleneck else _basic_block
    for index in range(1, blocks + 1):
        strides = 2 if index == 1 and name != "conv2" else 1
        x = block(x, filters, strides, name=f"{name}_block{index}")
    return x


def _basic_block(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Applies two 3x3 convolutions and adds the shortcut."""
    shortcut = _shortcut(x, filters, strides, name=name)
    x = _conv_bn(x, filters, 3, strides=strides, name=f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, filters, 3, name=f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _bottleneck_block(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Applies a 1x1, a 3x3 and a 1x1 convolution and adds the shortcut."""
    shortcut = _shortcut(x, 4 * filters, strides, name=name)
    x = _conv_bn(x, filters, 1, name=f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, filters, 3, strides=strides, name=f"{name}_2")
    x = keras.layers.ReLU(name=f"{name}_2_relu")(x)
    x = _conv_bn(x, 4 * filters, 1, name=f"{name}_3")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _shortcut(x: keras.KerasTensor, filters: int, strides: int, *, name: str) -> keras.KerasTensor:
    """Returns the input of a block, with a 1x1 convolution if the block changes the shape."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return _conv_bn(x, filters, 1, strides=strides, name=f"{name}_0")


def _conv_bn(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, strides: int = 1, name: str
) -> keras.KerasTensor:
    """Applies `<name>_conv` (convolution without bias) and `<name>_bn` (batch normalization)."""
    padding = "same"
    if strides > 1 and kernel_size > 1:
        # PyTorch pads both sides equally. With "same", Keras would add more padding on the right
        # than on the left of a strided convolution.
        x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        # He et al. 2015, https://arxiv.org/abs/1502.01852, with fan-out as in torchvision
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
