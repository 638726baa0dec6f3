"""Dilated convolutions as single operations, for conversion to ONNX and LiteRT.

TensorFlow computes a dilated convolution in three steps: it moves pixels into the batch axis,
convolves without dilation, and moves the pixels back. A converter can replace the three steps with
a single operation only if the size of the feature maps is known. In the layer
`AtrousSeparableConv2D`, a converter can never replace the three steps. Without the replacement, one
layer becomes dozens of operations in the exported file. This module avoids these operations.
"""

import keras
import tensorflow as tf

from lcc_tf.models.convolutions import ChannelwiseConv2D
from lcc_tf.models.layers import all_layers


def with_single_operations(model: keras.Model) -> keras.Model:
    """Copies a network, and replaces each dilated convolution with a single operation.

    The copy is only for conversion, because TensorFlow cannot run dilated depthwise operations on a
    CPU.

    Args:
        model: a functional Keras model, which can contain other models.

    Returns:
        A model that shares the variables of `model`. If `model` has no dilated layer, `model`
        itself.
    """
    if not any(map(_is_dilated, all_layers(model))):
        return model

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return with_single_operations(layer)
        return _DilatedConvolution(layer) if _is_dilated(layer) else layer

    return keras.models.clone_model(model, clone_function=replace)


def _is_dilated(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    return isinstance(layer, kinds) and max(layer.dilation_rate) > 1


class _DilatedConvolution(keras.layers.Layer):
    """Dilated convolution as a single operation, with stride 1 and the variables of `layer`."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves feature maps, float `(batch, height, width, channels)`."""
        layer = self.layer
        if layer.padding == "same":
            # Pad before the convolution, because onnxruntime cannot pad in a dilated convolution.
            extent = [
                (size - 1) * rate
                for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)
            ]
            x = tf.pad(x, [(0, 0), *((r // 2, r - r // 2) for r in extent), (0, 0)])
        if isinstance(layer, keras.layers.SeparableConv2D):
            x = self._depthwise(x, layer.depthwise_kernel)
            x = tf.nn.conv2d(x, tf.convert_to_tensor(layer.pointwise_kernel), 1, "VALID")
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            x = self._depthwise(x, layer.kernel)
        elif isinstance(layer, ChannelwiseConv2D):
            x = self._depthwise(x, tf.transpose(tf.convert_to_tensor(layer.kernel), (0, 1, 3, 2)))
        else:
            kernel = tf.convert_to_tensor(layer.kernel)
            x = tf.nn.conv2d(x, kernel, 1, "VALID", dilations=layer.dilation_rate)
        x = tf.nn.bias_add(x, tf.convert_to_tensor(layer.bias)) if layer.use_bias else x
        return layer.activation(x)

    def _depthwise(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.DepthwiseConv2dNative(
            input=x,
            filter=tf.convert_to_tensor(kernel),
            strides=[1, 1, 1, 1],
            padding="VALID",
            dilations=[1, *self.layer.dilation_rate, 1],
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the output shape of the layer."""
        return self.layer.compute_output_shape(input_shape)
