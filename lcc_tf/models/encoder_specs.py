"""Table of the encoders: networks, preprocessing and names of layers.

ResNets with a name that ends in `_v1.5` have the layers of torchvision. All other encoders are
networks of `keras.applications`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras

from lcc_tf.models.resnet_v1_5 import RESNETS, ResNetVariant, resnet_v1_5


@dataclass(frozen=True)
class EncoderSpec:
    """Settings of an encoder: its network, its preprocessing and the names of its layers."""

    # Function that builds the network. Its arguments are (include_top, weights, input_tensor), as
    # in `keras.applications`, or (input_tensor) for ResNets with the layers of torchvision.
    application: Callable[..., keras.Model]
    preprocessing: str  # mode of `EncoderPreprocessing` that the ImageNet weights expect
    # Names of the layers whose outputs are the features of strides 2, 4, 8, 16 and 32
    taps: tuple[str, ...]
    stage_16: str  # regular expression for the names of the layers from stride 8 to stride 16
    stage_32: str  # regular expression for the names of the layers from stride 16 to stride 32
    # True if the features are the inputs of the layers in `taps` and the output of the network
    taps_are_inputs: bool = False
    # Dilation rate of a kernel whose stride is set to 1. True: the rate of the layers before the
    # kernel. Then the weights apply to the same neighbors as in training. False: the rate of the
    # kernel's stage, as in segmentation_models_pytorch.
    strided_keeps_rate: bool = False
    # Name of the ImageNet weights in timm; None for networks of `keras.applications`
    timm_weights: str | None = None


def _resnet(application: Callable[..., keras.Model], *blocks: int) -> EncoderSpec:
    return EncoderSpec(
        application=application,
        preprocessing="caffe",
        taps=_resnet_taps(blocks),
        stage_16=r"conv4_",
        stage_32=r"conv5_",
    )


def _resnet_v1_5(variant: ResNetVariant, timm_weights: str) -> EncoderSpec:
    return EncoderSpec(
        application=functools.partial(resnet_v1_5, variant),
        preprocessing="torch",
        taps=_resnet_taps(variant.blocks),
        stage_16=r"conv4_",
        stage_32=r"conv5_",
        timm_weights=timm_weights,
    )


def _resnet_taps(blocks: tuple[int, ...]) -> tuple[str, ...]:
    return (
        "conv1_relu",
        *(f"conv{stage}_block{count}_out" for stage, count in enumerate(blocks, start=2)),
    )


def _efficientnetv2(
    application: Callable[..., keras.Model], preprocessing: str, *taps: str
) -> EncoderSpec:
    return EncoderSpec(
        application=functools.partial(application, include_preprocessing=False),
        preprocessing=preprocessing,
        taps=taps,
        stage_16=r"block[45]",
        stage_32=r"block6",
        strided_keeps_rate=True,
    )


def _convnext(application: Callable[..., keras.Model], name: str) -> EncoderSpec:
    # The stem has stride 4, therefore ConvNeXt has no features of stride 2. A stage ends in a sum,
    # which is not a layer. Therefore the taps are the layers after the stages. The inputs of these
    # layers are the features.
    return EncoderSpec(
        application=functools.partial(application, include_preprocessing=False),
        preprocessing="torch",
        taps=tuple(f"{name}_downsampling_block_{index}" for index in range(3)),
        stage_16=rf"{name}_(downsampling_conv_1|stage_2)",
        stage_32=rf"{name}_(downsampling_conv_2|stage_3)",
        taps_are_inputs=True,
        strided_keeps_rate=True,
    )


# Sources:
# - ResNet, blocks per stage: He et al. 2016, https://arxiv.org/abs/1512.03385, table 1.
# - MobileNetV2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2. The taps are the
#   bottlenecks (16, 24, 32 and 96 channels). The expansion layers after the bottlenecks have six
#   times as many channels. With these layers as taps, the nodes of UNet++ would have six times as
#   many filters.
# - EfficientNetV2: Tan & Le 2021, https://arxiv.org/abs/2104.00298, table 4, scaled. The taps are
#   the last blocks of each stride.
# - ConvNeXt: Liu et al. 2022, https://arxiv.org/abs/2201.03545.
# - Weights of torchvision's ResNets: names with "tv" are the first version. Names with "tv2" are a
#   later version with an improved training recipe, which does not exist for resnet18 and resnet34
#   (https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives).
ENCODERS = {
    "resnet50": _resnet(keras.applications.ResNet50, 3, 4, 6, 3),
    "resnet101": _resnet(keras.applications.ResNet101, 3, 4, 23, 3),
    "resnet152": _resnet(keras.applications.ResNet152, 3, 8, 36, 3),
    "resnet18_v1.5": _resnet_v1_5(RESNETS["resnet18_v1.5"], "resnet18.tv_in1k"),
    "resnet34_v1.5": _resnet_v1_5(RESNETS["resnet34_v1.5"], "resnet34.tv_in1k"),
    "resnet50_v1.5": _resnet_v1_5(RESNETS["resnet50_v1.5"], "resnet50.tv2_in1k"),
    "resnet101_v1.5": _resnet_v1_5(RESNETS["resnet101_v1.5"], "resnet101.tv2_in1k"),
    "resnet152_v1.5": _resnet_v1_5(RESNETS["resnet152_v1.5"], "resnet152.tv2_in1k"),
    "mobilenetv2": EncoderSpec(
        application=keras.applications.MobileNetV2,
        preprocessing="tf",
        taps=(
            "expanded_conv_project_BN",
            "block_2_add",
            "block_5_add",
            "block_12_add",
            "out_relu",
        ),
        stage_16=r"block_([6-9]|1[0-2])_(?!expand|project)",
        stage_32=r"block_1[3-6]_(?!expand|project)",
    ),
    "efficientnetv2b0": _efficientnetv2(
        keras.applications.EfficientNetV2B0,
        "torch",
        *("block1a_project_activation", "block2b_add", "block3b_add", "block5e_add", "block6h_add"),
    ),
    "efficientnetv2b1": _efficientnetv2(
        keras.applications.EfficientNetV2B1,
        "torch",
        *("block1b_add", "block2c_add", "block3c_add", "block5f_add", "block6i_add"),
    ),
    "efficientnetv2b2": _efficientnetv2(
        keras.applications.EfficientNetV2B2,
        "torch",
        *("block1b_add", "block2c_add", "block3c_add", "block5f_add", "block6j_add"),
    ),
    "efficientnetv2b3": _efficientnetv2(
        keras.applications.EfficientNetV2B3,
        "torch",
        *("block1b_add", "block2c_add", "block3c_add", "block5g_add", "block6l_add"),
    ),
    "efficientnetv2s": _efficientnetv2(
        keras.applications.EfficientNetV2S,
        "tf_128",
        *("block1b_add", "block2d_add", "block3d_add", "block5i_add", "block6o_add"),
    ),
    "convnext_tiny": _convnext(keras.applications.ConvNeXtTiny, "convnext_tiny"),
    "convnext_base": _convnext(keras.applications.ConvNeXtBase, "convnext_base"),
}
