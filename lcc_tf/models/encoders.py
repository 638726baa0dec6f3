"""ImageNet encoders with feature taps at strides 2 to 32, preprocessing inside.

An encoder is a graph of `keras.applications`, or ResNet in torchvision's form, cut after its last
stage. To keep deep features dense, the strides of the last stages are replaced by atrous (dilated)
convolutions, which leaves the shapes of all weights as they are (Chen et al. 2017,
https://arxiv.org/abs/1706.05587, section 3.1).
"""

import functools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from lcc_tf.errors import InputError
from lcc_tf.models.blocks import ChannelwiseConv2D
from lcc_tf.models.preprocessing import EncoderPreprocessing, check_image_size
from lcc_tf.models.resnet_v1_5 import RESNETS, ResNetVariant, resnet_v1_5
from lcc_tf.models.torch_weights import (
    TORCH_SUFFIXES,
    load_torch_encoder,
    read_torch_weights,
)

STRIDES = (2, 4, 8, 16, 32)
TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


@dataclass(frozen=True)
class EncoderSpec:
    """Layer names and settings with which a network becomes an encoder."""

    # Builds the network. Of `keras.applications`: (include_top, weights, input_tensor); torchvision
    # forms: (input_tensor).
    application: Callable[..., keras.Model]
    preprocessing: str  # mode of `EncoderPreprocessing` its ImageNet weights expect
    taps: tuple[str, ...]  # layers whose outputs have the strides 2, 4, 8, 16, 32
    stage_16: str  # pattern of the layers that go from stride 8 to 16
    stage_32: str  # pattern of the layers that go from stride 16 to 32
    # The features are what the layers of `taps` take in, and the network's output.
    taps_are_inputs: bool = False
    # A strided kernel keeps the rate of the layers before it when its stride is taken away, so that
    # the weights see the neighbors they were trained on. False: it is dilated with its stage, as
    # in segmentation_models_pytorch.
    strided_keeps_rate: bool = False
    timm_weights: str | None = None  # torchvision forms: timm's name of their ImageNet weights


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
    # No features of stride 2: the stem has stride 4. Stages end in sums, which are no layers.
    return EncoderSpec(
        application=functools.partial(application, include_preprocessing=False),
        preprocessing="torch",
        taps=tuple(f"{name}_downsampling_block_{index}" for index in range(3)),
        stage_16=rf"{name}_(downsampling_conv_1|stage_2)",
        stage_32=rf"{name}_(downsampling_conv_2|stage_3)",
        taps_are_inputs=True,
        strided_keeps_rate=True,
    )


# Blocks a stage: He et al. 2016, https://arxiv.org/abs/1512.03385, table 1;
# MobileNetV2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2. Its taps are the
# bottlenecks (16, 24, 32, 96 channels), what the paper's blocks pass on. The expansions behind
# them are six times as wide, and UNet++ has nodes as wide as its taps.
# EfficientNetV2: Tan & Le 2021, https://arxiv.org/abs/2104.00298, table 4, scaled; the last block
# of each stride. ConvNeXt: Liu et al. 2022, https://arxiv.org/abs/2201.03545.
# torchvision's ResNets: "tv" are its first weights, "tv2" those of its better recipe
# (https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives),
# which resnet18 and resnet34 have not.
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


def build_encoder(
    name: str,
    *,
    weights: str | None = "imagenet",
    output_stride: int = 32,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    preprocessing: str | None = None,
) -> keras.Model:
    """Builds an encoder named "encoder" whose outputs are its features at four or five depths.

    Without strides, the squeeze-and-excitation of EfficientNetV2 averages over the denser features.

    Args:
        name: a key of `ENCODERS`.
        weights: "imagenet" (downloaded on first use), None for random ones, or the path of a
            weights file: of the same `keras.applications` model without its top; for a ResNet in
            torchvision's form, torchvision's or timm's (see `read_torch_weights`).
        output_stride: 32, 16 or 8: the stride of the deepest features.
        input_shape: `(height, width, 3)`; None for any size.
        preprocessing: one of `PREPROCESSING_MODES`, for weights that were trained with another one
            than the encoder's ImageNet weights; None for the encoder's own.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to a list of features
        with strides 2, 4, 8, 16 and 32, none larger than `output_stride`. ConvNeXt has none of
        stride 2.

    Raises:
        InputError: unknown name, output stride or preprocessing, weights that can't be had or don't
            fit, a size that the stride does not divide.
    """
    if name not in ENCODERS:
        raise InputError(f"Unknown encoder. Received: {name!r}. Choose one of {list(ENCODERS)}.")
    if output_stride not in (8, 16, 32):
        raise InputError(f"`output_stride` must be 8, 16 or 32. Received: {output_stride}.")
    check_image_size(input_shape[0], input_shape[1], output_stride)
    spec = ENCODERS[name]
    inputs = keras.Input(input_shape, name="image")
    preprocessed = EncoderPreprocessing(
        preprocessing or spec.preprocessing, size_divisor=output_stride, name="preprocessing"
    )(inputs)
    network = _application(name, spec, weights, preprocessed)
    if output_stride < 32 or any(_is_channelwise(layer) for layer in network.layers):
        original = network
        network = keras.models.clone_model(
            original,
            clone_function=lambda layer: _adapted(layer, spec, output_stride),
            recursive=True,
        )
        network.set_weights(original.get_weights())
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As in PyTorch, where the original trained. Keras' 0.99 (MobileNetV2: 0.999) would
            # let the statistics lag behind the weights for thousands of steps.
            layer.momentum = 0.9
    if spec.taps_are_inputs:
        features = [*(network.get_layer(tap).input for tap in spec.taps), network.output]
    else:
        features = [network.get_layer(tap).output for tap in spec.taps]
    return keras.Model(network.inputs[0], features, name="encoder")


def _application(
    name: str, spec: EncoderSpec, weights: str | None, preprocessed: keras.KerasTensor
) -> keras.Model:
    """Builds the network on preprocessed images and loads its weights."""
    file_kind = (
        f"keras.applications' {name} without its top"
        if spec.timm_weights is None
        else f"torchvision's or timm's {name.removesuffix('_v1.5')}"
    )
    check_weights_file(weights, file_kind)
    try:
        if spec.timm_weights is not None:
            return _torchvision_network(spec, weights, preprocessed)
        with warnings.catch_warnings():
            # MobileNetV2 warns that images of unknown size get the weights made for 224x224.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined.*")
            return spec.application(include_top=False, weights=weights, input_tensor=preprocessed)
    except InputError as error:
        raise InputError(
            f"The encoder weights {weights!r} are not those of {file_kind}: {error}"
        ) from error
    except Exception as error:
        if weights is None:
            raise
        hint = "Give the matching `*_notop.h5` file, or another `encoder`."
        if Path(weights).suffix in TORCH_SUFFIXES:
            hint = f"Files from PyTorch are for the encoders {list(RESNETS)}."
        raise weights_error(name, weights, file_kind, error, hint) from error


def check_weights_file(weights: str | None, file_kind: str) -> None:
    """Checks that encoder weights are "imagenet", None or a file.

    Args:
        weights: as of `build_encoder`.
        file_kind: description of the file that fits.

    Raises:
        InputError: there is no such file.
    """
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise InputError(
            f"There is no file of encoder weights at {weights!r}. Use "
            "`encoder_weights='imagenet'`, `encoder_weights=None` or the path of a weights file of "
            f"{file_kind}."
        )


def weights_error(
    encoder: str, weights: str, file_kind: str, error: Exception, hint: str
) -> InputError:
    """Returns the error for encoder weights that could not be loaded.

    Args:
        encoder: name of the encoder.
        weights: "imagenet" or a file.
        file_kind: description of the file that fits.
        error: a bare Exception of Keras for a failed download, or any error of h5py or a layer for
            a file that does not fit.
        hint: what to use instead of the file.
    """
    reason = " ".join(str(error).split())[:300]
    if weights == "imagenet":
        return InputError(
            f"The ImageNet weights of {encoder} could not be downloaded: {reason}. Either start "
            "from random weights with `encoder_weights=None`, or fetch the file that the message "
            "names on another machine and use its path as `encoder_weights`."
        )
    return InputError(
        f"The file {weights!r} does not hold the weights of {file_kind}: {reason}. {hint}"
    )


def _torchvision_network(
    spec: EncoderSpec, weights: str | None, preprocessed: keras.KerasTensor
) -> keras.Model:
    """Builds a ResNet in torchvision's form and loads its weights."""
    network = spec.application(preprocessed)
    if weights == "imagenet":
        weights = keras.utils.get_file(
            f"{spec.timm_weights}.safetensors",
            TIMM_URL.format(spec.timm_weights),
            cache_subdir="models",
        )
    if weights is not None:
        load_torch_encoder(network, read_torch_weights(weights))
    return network


def _is_channelwise(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a convolution with one group per channel."""
    return isinstance(layer, keras.layers.Conv2D) and layer.groups == layer.filters > 1


def _adapted(layer: keras.layers.Layer, spec: EncoderSpec, output_stride: int) -> keras.Layer:
    """Copies a layer; where its stage would exceed `output_stride`, it is dilated instead."""
    config = layer.get_config()
    in_stage_16 = re.match(spec.stage_16, layer.name) is not None
    in_stage_32 = re.match(spec.stage_32, layer.name) is not None
    rate = 1
    if in_stage_32:
        rate = 32 // output_stride
    elif in_stage_16:
        rate = max(1, 16 // output_stride)
    if rate > 1 and isinstance(layer, keras.layers.ZeroPadding2D):
        config["padding"] = (0, 0)  # it served the stride alone
    elif rate > 1 and isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        config["strides"] = 1
        if max(layer.kernel_size) > 1:
            if spec.strided_keeps_rate and max(layer.strides) > 1:
                rate //= 2
            config.update(dilation_rate=rate, padding="same")
    if _is_channelwise(layer):
        return ChannelwiseConv2D.from_config(config)
    return layer.__class__.from_config(config)
