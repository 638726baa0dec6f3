"""Dilated stages of an encoder: dense deep features from weights trained with strides.

The strides of the last stages are removed, and the kernels behind them are dilated (atrous
convolution). All weights keep their shapes (Chen et al. 2017, https://arxiv.org/abs/1706.05587,
section 3.1).
"""

import re

import keras

from lcc_tf.models.convolutions import ChannelwiseConv2D
from lcc_tf.models.encoder_specs import EncoderSpec


def with_output_stride(network: keras.Model, spec: EncoderSpec, output_stride: int) -> keras.Model:
    """Returns a network whose deepest features have a given stride, with the same weights.

    Convolutions with one group per channel become `ChannelwiseConv2D`.

    Args:
        network: the encoder's network, with an output stride of 32.
        spec: the encoder's specification.
        output_stride: 32, 16 or 8.

    Returns:
        A copy, or `network` itself if nothing changes.
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
    """Copies a layer; dilates it where its stride would exceed `output_stride`."""
    config = layer.get_config()
    rate = 1
    if re.match(spec.stage_32, layer.name):
        rate = 32 // output_stride
    elif re.match(spec.stage_16, layer.name):
        rate = max(1, 16 // output_stride)
    if rate > 1 and isinstance(layer, keras.layers.ZeroPadding2D):
        config["padding"] = (0, 0)  # only the removed stride needed it
    elif rate > 1 and isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        config["strides"] = 1
        if max(layer.kernel_size) > 1:
            if spec.strided_keeps_rate and max(layer.strides) > 1:
                rate //= 2
            config.update(dilation_rate=rate, padding="same")
    if _is_channelwise(layer):
        return ChannelwiseConv2D.from_config(config)
    return layer.__class__.from_config(config)
