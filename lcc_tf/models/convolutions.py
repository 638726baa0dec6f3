"""Convolution layers that return the same results as the layers of Keras, in less time."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("lcc_tf")
class AtrousSeparableConv2D(keras.layers.SeparableConv2D):
    """`SeparableConv2D` that is fast at large dilation rates.

    For a dilated depthwise convolution, TensorFlow pads the feature map to a multiple of the
    dilation rate. With a rate of 36 and 8x8 pixels, the padding multiplies the work by several
    hundred. This layer instead adds nine shifted copies of the feature map, one per element of the
    kernel. It skips copies that contain only padding.

    The layer uses this method for 3x3 kernels with stride 1, depth multiplier 1 and padding "same".
    The image size must also be known before the call, as in training. In all other cases, the layer
    calls `SeparableConv2D`. Both layers have the same arguments.

    Example:
        >>> layer = AtrousSeparableConv2D(4, 3, padding="same", dilation_rate=36)
        >>> layer(np.zeros((1, 8, 8, 2))).shape
        TensorShape([1, 8, 8, 4])
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves feature maps, float `(batch, height, width, channels)`."""
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
        shifted = []
        for row in range(3):
            for column in range(3):
                down, right = (row - 1) * rate, (column - 1) * rate
                if abs(down) >= height or abs(right) >= width:
                    continue
                top, bottom = max(-down, 0), max(down, 0)
                left, end = max(-right, 0), max(right, 0)
                inside = x[:, bottom : height - top, end : width - left]
                margins = [(0, 0), (top, bottom), (left, end), (0, 0)]
                shifted.append(tf.pad(inside * kernel[row, column, :, 0], margins))
        x = keras.ops.conv(tf.add_n(shifted), self.pointwise_kernel, padding="same")
        if self.use_bias:
            x = keras.ops.add(x, self.bias)
        return x if self.activation is None else self.activation(x)


@keras.saving.register_keras_serializable("lcc_tf")
class ChannelwiseConv2D(keras.layers.Conv2D):
    """`Conv2D` that is fast if the number of groups equals the number of channels.

    In this case, the layer calls the depthwise convolution of TensorFlow. `Conv2D` would compile
    the grouped convolution with XLA and take 8 to 30 times as long on a CPU. In all other cases,
    the layer calls `Conv2D`. Both layers have the same arguments and weights.

    Example:
        >>> layer = ChannelwiseConv2D(4, 3, groups=4)
        >>> layer(np.zeros((1, 8, 8, 4))).shape
        TensorShape([1, 6, 6, 4])
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves feature maps, float `(batch, height, width, channels)`."""
        is_channelwise = (
            self.groups == self.filters == x.shape[-1]
            and self.strides[0] == self.strides[1]  # `tf.nn.depthwise_conv2d` requires this
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
