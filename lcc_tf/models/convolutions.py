"""Convolution layers that return the same results as the layers of Keras, in less time."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("lcc_tf")
class AtrousSeparableConv2D(keras.layers.SeparableConv2D):
    """`SeparableConv2D` that is fast at large dilation rates.

    For a dilated depthwise convolution, TensorFlow pads the feature map to a multiple of the
    dilation rate. With a rate of 36 and 8x8 pixels, the padding multiplies the work by several
    hundred. This layer instead adds nine shifted copies of the feature map, one per element of the
    kernel. If the image size is known before the call, the layer skips copies of padding only.

    The layer uses this method for 3x3 kernels with stride 1, depth multiplier 1 and padding "same".
    In all other cases, the layer calls `SeparableConv2D`. Both layers have the same arguments.

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
        if not is_atrous:
            return super().call(x)
        sides = [
            tf.shape(x)[axis] if side is None else side
            for axis, side in enumerate(x.shape[1:3], start=1)
        ]
        kernel = tf.convert_to_tensor(self.depthwise_kernel)
        shifted = []
        for row in range(3):
            for column in range(3):
                shifts = (row - 1) * rate, (column - 1) * rate
                if any(
                    isinstance(n, int) and abs(s) >= n for s, n in zip(shifts, sides, strict=True)
                ):
                    continue
                (top, bottom), (left, end) = map(_margins, shifts, sides)
                inside = x[:, bottom : sides[0] - top, end : sides[1] - left]
                margins = [(0, 0), (top, bottom), (left, end), (0, 0)]
                copy = tf.pad(inside * kernel[row, column, :, 0], margins)
                copy.set_shape(x.shape)  # otherwise, the number of channels could be unknown
                shifted.append(copy)
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


@keras.saving.register_keras_serializable("lcc_tf", name="NodeConv2D")
class NodeConv2D(keras.layers.Layer):
    """3x3 convolution without bias of an upsampled feature map and other feature maps.

    The result is the same as the result of `UpSampling2D(2)`, `Concatenate` and `Conv2D`. The
    upsampled map has equal values in each block of 2x2 pixels. Therefore, each output pixel depends
    on only 2x2 pixels of the map before the upsampling, and 4 of 9 multiplications are enough. On a
    CPU, the layer therefore uses a transposed convolution with stride 2 and a 4x4 kernel. For small
    maps, for maps of unknown size and on a GPU, the layer upsamples the map first.

    Args:
        filters: number of output channels.
        kernel_initializer: initializer of the kernel.

    Example:
        >>> layer = NodeConv2D(4)
        >>> layer([np.zeros((1, 8, 8, 2)), np.zeros((1, 16, 16, 3))]).shape
        TensorShape([1, 16, 16, 4])
    """

    # Minimum number of pixels of the map before the upsampling. For smaller maps, the transposed
    # convolution is slower.
    MIN_PIXELS = 256

    def __init__(
        self, filters: int, kernel_initializer: str = "he_uniform", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_initializer = kernel_initializer

    def build(self, input_shapes: list[tuple]) -> None:
        """Creates the same kernel as `Conv2D` for the concatenated maps."""
        channels = sum(shape[-1] for shape in input_shapes)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(3, 3, channels, self.filters),
            initializer=self.kernel_initializer,
        )

    def call(self, maps: list[tf.Tensor]) -> tf.Tensor:
        """Convolves feature maps.

        Args:
            maps: the map to upsample, float `(batch, height, width, channels)`, then any number of
                maps, float `(batch, 2 * height, 2 * width, any_channels)`.

        Returns:
            float `(batch, 2 * height, 2 * width, filters)`.
        """
        below, *skips = maps
        kernel = tf.convert_to_tensor(self.kernel)
        height, width, channels = below.shape[1:]
        if (
            None in (height, width)
            or height * width < self.MIN_PIXELS
            or tf.config.list_physical_devices("GPU")
        ):
            upsampled = keras.ops.repeat(keras.ops.repeat(below, 2, axis=1), 2, axis=2)
            return tf.nn.conv2d(tf.concat([upsampled, *skips], axis=-1), kernel, 1, "SAME")
        transposed = _upsampling_kernel(tf.transpose(kernel[:, :, :channels], (0, 1, 3, 2)))
        shape = (tf.shape(below)[0], 2 * height, 2 * width, self.filters)
        x = tf.nn.conv2d_transpose(below, transposed, shape, 2, "SAME")
        if skips:
            x += tf.nn.conv2d(tf.concat(skips, axis=-1), kernel[:, :, channels:], 1, "SAME")
        return x

    def compute_output_shape(self, input_shapes: list[tuple]) -> tuple:
        """Doubles height and width of the first map."""
        batch, height, width, _ = input_shapes[0]
        double = [None if side is None else 2 * side for side in (height, width)]
        return (batch, *double, self.filters)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = {"filters": self.filters, "kernel_initializer": self.kernel_initializer}
        return super().get_config() | config


# In weights files, Keras names layers after their class. With this name, UNet++ can read files that
# were written when this layer was a `Conv2D`.
NodeConv2D.__name__ = "Conv2D"


def _upsampling_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Returns the 4x4 kernel of a transposed convolution that equals upsampling and a 3x3 kernel.

    Upsampling copies each pixel to a block of 2x2 pixels. If two copies along an axis are neighbors
    of the same output pixel, their weights are added.
    """
    for axis in (0, 1):
        before, center, after = tf.unstack(kernel, num=3, axis=axis)
        kernel = tf.stack([after, center + after, before + center, before], axis=axis)
    return kernel


def _margins(shift: int, side: int | tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Returns the widths of the margins that a shifted feature map has before and after its pixels.

    In a map of unknown size, the margins are not larger than the map.
    """
    before, after = max(-shift, 0), max(shift, 0)
    if isinstance(side, int):
        return before, after
    return tf.minimum(before, side), tf.minimum(after, side)
