"""Dilation of the last stages of an encoder, for deep features of higher resolution.

The strides of the last stages become 1, and the kernels after the strides are dilated (atrous
convolution). The weights keep their shapes, therefore weights that were trained with strides can
still be used (Chen et al. 2017, https://arxiv.org/abs/1706.05587, section 3.1).
"""

import re

import keras

from lcc_tf.models.convolutions import ChannelwiseConv2D
from lcc_tf.models.encoder_specs import EncoderSpec


def with_output_stride(network: keras.Model, spec: EncoderSpec, output_stride: int) -> keras.Model:
    """Changes the stride of a network's deepest features and keeps the weights.

    The function also replaces convolutions with one group per channel by `ChannelwiseConv2D`.

    Args:
        network: network of an encoder, with an output stride of 32.
        spec: specification of the encoder.
        output_stride: stride of the deepest features: 32, 16 or 8.

    Returns:
        A changed copy of the network, or `network` itself if no layer changes.
    """
    if output_stride == 32 and not any(map(_is_channelwise, network.layers)):
        return network
    copy = keras.models.clone_model(
        network,
        clone_function=lambda layer: _adapted(layer, spec, output_stride),
        recursive=True,
    )
    copy.set_weights(network.get_weights())
    return copy


def _is_channelwise(layer: keras.layers.Layer) -> bool:
    """Returns True for a convolution with one group per channel."""
    return isinstance(layer, keras.layers.Conv2D) and layer.groups == layer.filters > 1


def _adapted(layer: keras.layers.Layer, spec: EncoderSpec, output_stride: int) -> keras.Layer:
    """Copies a layer; dilates the copy if the stride of its stage would exceed `output_stride`."""
    config = layer.get_config()
    rate = 1
    if re.match(spec.stage_32, layer.name):
        rate = 32 // output_stride
    elif re.match(spec.stage_16, layer.name):
        rate = max(1, 16 // output_stride)
    if rate > 1 and isinstance(layer, keras.layers.ZeroPadding2D):
        config["padding"] = (0, 0)  # only the strided convolution needed this padding
    elif rate > 1 and isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        config["strides"] = 1
        if max(layer.kernel_size) > 1:
            if spec.strided_keeps_rate and max(layer.strides) > 1:
                rate //= 2
            config.update(dilation_rate=rate, padding="same")
    if _is_channelwise(layer):
        return ChannelwiseConv2D.from_config(config)
    return layer.__class__.from_config(config)
