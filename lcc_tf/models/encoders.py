"""ImageNet encoders with feature taps at strides 2 to 32, preprocessing inside.

An encoder is a `keras.applications` graph, cut after its last stage. To keep deep features dense,
the strides of the last stages are replaced by atrous (dilated) convolutions, which leaves the
shapes of all weights as they are (Chen et al. 2017, https://arxiv.org/abs/1706.05587, section 3.1).
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from keras.applications import imagenet_utils

from tfds_deepglobe.errors import InputError

STRIDES = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class EncoderSpec:
    """What has to be known of a `keras.applications` graph to use it as an encoder."""

    application: Callable[..., keras.Model]
    preprocessing: str  # mode of `imagenet_utils.preprocess_input` its ImageNet weights expect
    taps: tuple[str, ...]  # layers whose outputs have the strides 2, 4, 8, 16, 32
    stage_16: str  # pattern of the layers that go from stride 8 to 16
    stage_32: str  # pattern of the layers that go from stride 16 to 32


def _resnet(application: Callable[..., keras.Model], *blocks: int) -> EncoderSpec:
    return EncoderSpec(
        application=application,
        preprocessing="caffe",
        taps=(
            "conv1_relu",
            *(f"conv{stage}_block{count}_out" for stage, count in enumerate(blocks, start=2)),
        ),
        stage_16=r"conv4_",
        stage_32=r"conv5_",
    )


# Blocks a stage: He et al. 2016, https://arxiv.org/abs/1512.03385, table 1;
# MobileNetV2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2. Its taps are the
# bottlenecks (16, 24, 32, 96 channels), what the paper's blocks pass on. The expansions behind
# them are six times as wide, and UNet++ has nodes as wide as its taps.
ENCODERS = {
    "resnet50": _resnet(keras.applications.ResNet50, 3, 4, 6, 3),
    "resnet101": _resnet(keras.applications.ResNet101, 3, 4, 23, 3),
    "resnet152": _resnet(keras.applications.ResNet152, 3, 8, 36, 3),
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
}


@keras.saving.register_keras_serializable("lcc_tf")
class EncoderPreprocessing(keras.layers.Layer):
    """Turns RGB in [0, 255] into what the encoder's ImageNet weights expect.

    It stays in float32 under a mixed precision policy: bfloat16 has 8 bits of mantissa, too few
    for 8-bit pixels minus a mean. Sizes known when it is called are checked here, the one place
    that every image passes.

    Args:
        mode: "caffe" (BGR minus mean), "tf" (to [-1, 1]) or "torch" (RGB mean and std), as in
            `keras.applications.imagenet_utils.preprocess_input`.
        size_divisor: height and width must be divisible by it, the network's largest stride.

    Raises:
        InputError: an image's height or width is not divisible by `size_divisor`.
    """

    def __init__(self, mode: str, size_divisor: int, **kwargs: object) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.mode = mode
        self.size_divisor = size_divisor

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Preprocesses float32 `(batch, height, width, 3)`."""
        check_image_size(images.shape[1], images.shape[2], self.size_divisor)
        return imagenet_utils.preprocess_input(images, mode=self.mode, data_format="channels_last")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The shape stays as it is; the size is checked here as well."""
        check_image_size(input_shape[1], input_shape[2], self.size_divisor)
        return input_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("dtype")
        return config | {"mode": self.mode, "size_divisor": self.size_divisor}


def check_image_size(height: int | None, width: int | None, divisor: int) -> None:
    """Checks that an image fits the network's strides.

    Args:
        height: pixels; None while unknown.
        width: pixels; None while unknown.
        divisor: the network's largest stride.

    Raises:
        InputError: height or width is not divisible by `divisor`.
    """
    if any(size is not None and size % divisor for size in (height, width)):
        nearest = [
            None if size is None else max(divisor, round(size / divisor) * divisor)
            for size in (height, width)
        ]
        raise InputError(
            f"Height and width must be divisible by {divisor}, the network's largest stride, so "
            f"that its features align. Received: height={height}, width={width}. "
            f"Resize or pad to {nearest[0]}x{nearest[1]}."
        )


def build_encoder(
    name: str,
    *,
    weights: str | None = "imagenet",
    output_stride: int = 32,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds an encoder named "encoder" whose outputs are its features at five depths.

    Args:
        name: a key of `ENCODERS`.
        weights: "imagenet" (downloaded by Keras on first use), None for random ones, or the path
            of a weights file of the same `keras.applications` model without its top.
        output_stride: 32, 16 or 8: the stride of the deepest features.
        input_shape: `(height, width, 3)`; None for any size.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to a list of five
        features with strides 2, 4, 8, 16 and 32, none larger than `output_stride`.

    Raises:
        InputError: unknown name or output stride, weights that can't be had or don't fit, a size
            that the stride does not divide.
    """
    if name not in ENCODERS:
        raise InputError(f"Unknown encoder. Received: {name!r}. Choose one of {list(ENCODERS)}.")
    if output_stride not in (8, 16, 32):
        raise InputError(f"`output_stride` must be 8, 16 or 32. Received: {output_stride}.")
    check_image_size(input_shape[0], input_shape[1], output_stride)
    spec = ENCODERS[name]
    inputs = keras.Input(input_shape, name="image")
    preprocessed = EncoderPreprocessing(
        spec.preprocessing, size_divisor=output_stride, name="preprocessing"
    )(inputs)
    network = _application(name, spec, weights, preprocessed)
    if output_stride < 32:
        strided = network
        network = keras.models.clone_model(
            strided, clone_function=lambda layer: _dilated(layer, spec, output_stride)
        )
        network.set_weights(strided.get_weights())
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As in PyTorch, where the original trained. Keras' 0.99 (MobileNetV2: 0.999) would
            # let the statistics lag behind the weights for thousands of steps.
            layer.momentum = 0.9
    taps = [network.get_layer(tap).output for tap in spec.taps]
    return keras.Model(network.inputs[0], taps, name="encoder")


def _application(
    name: str, spec: EncoderSpec, weights: str | None, preprocessed: keras.KerasTensor
) -> keras.Model:
    """Builds the `keras.applications` graph on preprocessed images and loads its weights."""
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise InputError(
            f"There is no file of encoder weights at {weights!r}. Give `imagenet`, `none` or the "
            f"path of a weights file of keras.applications' {name} without its top."
        )
    try:
        with warnings.catch_warnings():
            # MobileNetV2 warns that images of unknown size get the weights made for 224x224.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined.*")
            return spec.application(include_top=False, weights=weights, input_tensor=preprocessed)
    except Exception as error:
        # Keras raises a bare Exception for a failed download and whatever h5py or the layers say
        # for a file that does not fit.
        reason = " ".join(str(error).split())[:300]
        if weights is None:
            raise
        if weights == "imagenet":
            raise InputError(
                f"The ImageNet weights of {name} could not be downloaded: {reason}. Either train "
                "from random weights with `--encoder-weights none`, or fetch the file that the "
                "message names on another machine and give it as `--encoder-weights FILE`."
            ) from error
        raise InputError(
            f"The file {weights!r} does not hold the weights of keras.applications' {name} without "
            f"its top: {reason}. Give the matching `*_notop.h5` file, or another `--encoder`."
        ) from error


def _dilated(layer: keras.layers.Layer, spec: EncoderSpec, output_stride: int) -> keras.Layer:
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
            config.update(dilation_rate=rate, padding="same")
    return layer.__class__.from_config(config)
