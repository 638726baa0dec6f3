"""Building blocks that the decoders share.

Batch normalization has PyTorch's settings (epsilon 1e-5, momentum 0.9 as Keras counts it) and
convolutions start with PyTorch's He-uniform weights, as in the decoders of the original.
"""

import keras
import tensorflow as tf

from lcc_tf.errors import InputError


def batch_norm_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch normalization and ReLU, named `<name>_bn` and `<name>_relu`."""
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, name: str
) -> keras.KerasTensor:
    """Convolution without bias, batch normalization, ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: output channels.
        kernel_size: side of the kernel, pixels.
        name: of the convolution; the others append `_bn` and `_relu`.
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
    """Depthwise and pointwise convolution without bias, batch normalization, ReLU.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: output channels.
        kernel_size: side of the depthwise kernel, pixels.
        dilation_rate: distance between the depthwise kernel's taps, pixels.
        name: of the convolution; the others append `_bn` and `_relu`.
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
    """Head: a convolution with bias to one logit per class, in float32 under any precision."""
    return keras.layers.Conv2D(
        num_classes, kernel_size, padding="same", dtype="float32", name=name
    )(x)


def check_num_classes(num_classes: int) -> None:
    """Checks the number of output channels of a network.

    Raises:
        InputError: fewer than 2 classes, or not a whole number.
    """
    if num_classes != int(num_classes) or num_classes < 2:
        raise InputError(
            "`num_classes` must be a whole number of at least 2: one logit per class, followed by "
            f"softmax. Received: num_classes={num_classes}. Use num_classes=2 for a binary task."
        )


@keras.saving.register_keras_serializable("lcc_tf")
class AtrousSeparableConv2D(keras.layers.SeparableConv2D):
    """`SeparableConv2D` that is quick at the dilation rates of atrous spatial pyramid pooling.

    TensorFlow computes a dilated depthwise convolution on the map padded to a multiple of the
    rate, which for a rate of 36 on 8x8 pixels is hundreds of times the work. For 3x3 kernels with
    padding "same" and stride 1, and where the size is known, as in training, the nine taps are
    shifted copies of the map instead, and taps that only ever fall outside of it are left out.
    Everything else is computed as Keras does. Arguments are those of `SeparableConv2D`.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves float `(batch, height, width, channels)`."""
        rate = self.dilation_rate[0]
        is_atrous = (
            self.dilation_rate == (rate, rate)
            and rate > 1
            and self.kernel_size == (3, 3)
            and self.strides == (1, 1)
            and self.padding == "same"
            and self.depth_multiplier == 1
            and self.data_format == "channels_last"
        )
        if not is_atrous or None in x.shape[1:3]:
            return super().call(x)
        height, width = x.shape[1:3]
        kernel = tf.convert_to_tensor(self.depthwise_kernel)
        taps = []
        for row in range(3):
            for column in range(3):
                down, right = (row - 1) * rate, (column - 1) * rate
                if abs(down) >= height or abs(right) >= width:
                    continue
                top, bottom = max(-down, 0), max(down, 0)
                left, end = max(-right, 0), max(right, 0)
                inside = x[:, bottom : height - top, end : width - left]
                margins = [(0, 0), (top, bottom), (left, end), (0, 0)]
                taps.append(tf.pad(inside * kernel[row, column, :, 0], margins))
        x = keras.ops.conv(tf.add_n(taps), self.pointwise_kernel, padding="same")
        if self.use_bias:
            x = keras.ops.add(x, self.bias)
        return x if self.activation is None else self.activation(x)


@keras.saving.register_keras_serializable("lcc_tf")
class ChannelwiseConv2D(keras.layers.Conv2D):
    """`Conv2D` that computes one group per channel as a depthwise convolution.

    Keras compiles grouped convolutions with XLA, which on a CPU takes 8 to 30 times as long. The
    weights are those of `Conv2D(filters, ..., groups=filters)`. Everything else is computed as
    Keras does. Arguments are those of `Conv2D`.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves float `(batch, height, width, channels)`."""
        is_channelwise = (
            self.groups == self.filters == x.shape[-1]
            and self.strides[0] == self.strides[1]  # TensorFlow has no others for it
            and self.data_format == "channels_last"
        )
        if not is_channelwise:
            return super().call(x)
        kernel = tf.transpose(tf.convert_to_tensor(self.kernel), (0, 1, 3, 2))
        x = tf.nn.depthwise_conv2d(
            x, kernel, (1, *self.strides, 1), self.padding.upper(), dilations=self.dilation_rate
        )
        if self.use_bias:
            x = tf.nn.bias_add(x, self.bias)
        return x if self.activation is None else self.activation(x)


@keras.saving.register_keras_serializable("lcc_tf")
class BilinearUpsampling(keras.layers.Layer):
    """Upsamples feature maps bilinearly.

    TensorFlow's own functions take sizes that are unknown until the call and still export; Keras'
    `UpSampling2D` and `keras.ops.image.resize` don't do both.

    Args:
        factor: how many times higher and wider the output is.
        align_corners: the centers of the corner pixels stay where they are, as in PyTorch's
            `UpsamplingBilinear2d`; otherwise the corners of the image do.

    Raises:
        InputError: the factor is not a whole number of at least 1.
    """

    def __init__(self, factor: int, align_corners: bool = False, **kwargs: object) -> None:
        if factor != int(factor) or factor < 1:
            raise InputError(
                f"`factor` must be a whole number of at least 1. Received: factor={factor}."
            )
        super().__init__(**kwargs)
        self.factor = int(factor)
        self.align_corners = align_corners

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Upsamples float `(batch, height, width, channels)`."""
        # Sizes known now are kept as numbers: the output's shape is known then, too.
        size = [
            side * self.factor if side is not None else tf.shape(x)[axis] * self.factor
            for axis, side in enumerate(x.shape[1:3], start=1)
        ]
        if self.align_corners:
            upsampled = tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
        else:
            upsampled = tf.image.resize(x, size, method="bilinear")
        return tf.cast(upsampled, x.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Height and width times `factor`."""
        batch, height, width, channels = input_shape
        return (
            batch,
            None if height is None else height * self.factor,
            None if width is None else width * self.factor,
            channels,
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = {"factor": self.factor, "align_corners": self.align_corners}
        return super().get_config() | config


@keras.saving.register_keras_serializable("lcc_tf")
class BroadcastLike(keras.layers.Layer):
    """Repeats one pixel over the height and width of another tensor, whatever they are."""

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Repeats float `(batch, 1, 1, channels)` over `like`'s `(batch, height, width, _)`."""
        return tf.broadcast_to(x, tf.concat([tf.shape(like)[:3], tf.shape(x)[3:]], axis=0))

    def compute_output_shape(self, x_shape: tuple, like_shape: tuple) -> tuple:
        """Batch, height and width of `like`, channels of `x`."""
        return (*like_shape[:3], x_shape[-1])
