"""UNet, FPN, LinkNet and PSPNet of the package segmentation-models, with its own backbones.

Their graphs are segmentation-models' own, weight by weight. Added is what `UNetPlusPlus` has:
preprocessing inside, a layer "encoder" that can be frozen, float32 logits, images of any size, and
only layers that can be saved and exported. The package is imported when a network is built.

References: UNet, Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597; FPN, Kirillov et al.
2019, https://arxiv.org/abs/1901.02446; LinkNet, Chaurasia & Culurciello 2017,
https://arxiv.org/abs/1707.03718; PSPNet, Zhao et al. 2017, https://arxiv.org/abs/1612.01105;
the package: https://github.com/qubvel/segmentation_models
"""

import contextlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import tensorflow as tf

from lcc_tf.errors import InputError, require_extra
from lcc_tf.models.blocks import BilinearUpsampling, check_num_classes
from lcc_tf.models.encoders import check_weights_file, weights_error
from lcc_tf.models.preprocessing import EncoderPreprocessing

# segmentation-models' backbones and the mode of `EncoderPreprocessing` that each was trained with.
# Not here: densenet121, densenet169 and densenet201, whose layers have a "/" in their names, which
# Keras 3 refuses. Those with "next" in their names, and senet154, make each grouped convolution of
# 32 or 64 small ones, up to 7,000 layers, so that building alone takes half a minute to minutes.
BASELINE_ENCODERS = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), "none"),
    **dict.fromkeys(("seresnet18", "seresnet34", "resnext50", "resnext101"), "none"),
    **dict.fromkeys(("seresnet50", "seresnet101", "seresnet152"), "torch"),
    **dict.fromkeys(("seresnext50", "seresnext101", "senet154"), "torch"),
    **dict.fromkeys(("vgg16", "vgg19"), "caffe"),
    **dict.fromkeys(("inceptionv3", "inceptionresnetv2", "mobilenet", "mobilenetv2"), "tf"),
    **dict.fromkeys((f"efficientnetb{scale}" for scale in range(8)), "torch"),
}


@dataclass(frozen=True)
class Baseline:
    """Name and largest stride of an architecture of segmentation-models."""

    function: str  # its name in the package
    size_divisor: int  # the largest stride of its features


BASELINES = {
    "unet": Baseline("Unet", 32),
    "fpn": Baseline("FPN", 32),
    "linknet": Baseline("Linknet", 32),
    "pspnet": Baseline("PSPNet", 8),
}

# The first layers of the decoders; every other layer of theirs comes after one of these.
_DECODER = re.compile(r"center_block|decoder_stage|fpn_stage|psp_")
# PSPNet is defined there for sizes divisible by 48. Of those, this is the default, and not one of
# the sizes, such as 192, that MobileNets have weights of their own for.
_PACKAGE_SIZE = 384


@keras.saving.register_keras_serializable("lcc_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages over the cells of a grid, for feature maps of any size.

    Cell i of n along a side of s pixels is [floor(i s / n), ceil((i + 1) s / n)), as in PyTorch's
    `AdaptiveAvgPool2d`: cells overlap where n does not divide s. Keras' own
    `AdaptiveAveragePooling2D` needs sizes that are known beforehand.

    Args:
        cells: number of cells along each side of the grid.

    Raises:
        InputError: the number is not a whole number of at least 1.
    """

    def __init__(self, cells: int, **kwargs: object) -> None:
        if cells != int(cells) or cells < 1:
            raise InputError(
                f"`cells` must be a whole number of at least 1. Received: cells={cells}."
            )
        super().__init__(**kwargs)
        self.cells = int(cells)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Pools float `(batch, height, width, channels)` to `(batch, cells, cells, channels)`."""
        rows, columns = (self._shares(tf.shape(x)[axis]) for axis in (1, 2))
        # In float32: in half precision a mean of many pixels would lose most of its digits.
        x = tf.einsum("ih,bhwc->biwc", rows, tf.cast(x, tf.float32))
        return tf.cast(tf.einsum("jw,biwc->bijc", columns, x), self.compute_dtype)

    def _shares(self, size: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's weight in each cell's mean, float32 `(cells, size)`."""
        cell = tf.range(self.cells)[:, None]
        # The end is rounded up, by adding: ONNX divides negative numbers towards zero.
        start = cell * size // self.cells
        end = ((cell + 1) * size + self.cells - 1) // self.cells
        pixel = tf.range(size)[None]
        inside = tf.cast((start <= pixel) & (pixel < end), tf.float32)
        return inside / tf.reduce_sum(inside, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Height and width become `cells`."""
        return (input_shape[0], self.cells, self.cells, input_shape[-1])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"cells": self.cells}


@keras.saving.register_keras_serializable("lcc_tf")
class ConcatenateResized(keras.layers.Layer):
    """Upsamples feature maps bilinearly to the size of the first one and joins their channels."""

    def call(self, maps: list[tf.Tensor]) -> tf.Tensor:
        """Joins float `(batch, height, width, channels)` tensors of several sizes."""
        first, *others = maps
        # Sizes known now are kept as numbers: the output's shape is known then, too.
        size = first.shape[1:3] if None not in first.shape[1:3] else tf.shape(first)[1:3]
        resized = [tf.cast(tf.image.resize(x, size), first.dtype) for x in others]
        return tf.concat([first, *resized], axis=-1)

    def compute_output_shape(self, input_shapes: list[tuple]) -> tuple:
        """The first one's shape with the channels of all."""
        return (*input_shapes[0][:3], sum(shape[-1] for shape in input_shapes))


def UNet(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the UNet of segmentation-models as a functional Keras model.

    Args:
        num_classes: number of output channels, 2 or more; 2 for a binary task.
        encoder: a key of `BASELINE_ENCODERS`.
        encoder_weights: "imagenet" (downloaded by segmentation-models on first use), None for
            random ones, or the path of a weights file of that backbone without its top.
        input_shape: `(height, width, 3)`, both sizes divisible by 32; None for any.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to float32 logits
        `(batch, height, width, num_classes)`. Its layer "encoder" is the backbone with its
        preprocessing.

    Raises:
        InputError: segmentation-models is not installed, unknown encoder, weights that are missing
            or don't fit, a size that the stride does not divide.

    Example:
        >>> model = UNet(7, encoder="resnet18", encoder_weights=None)
        >>> model(np.zeros((1, 64, 32, 3))).shape
        TensorShape([1, 64, 32, 7])
    """
    return _baseline("unet", num_classes, encoder, encoder_weights, input_shape)


def FPN(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the FPN of segmentation-models; see `UNet`."""
    return _baseline("fpn", num_classes, encoder, encoder_weights, input_shape)


def Linknet(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the LinkNet of segmentation-models; see `UNet`."""
    return _baseline("linknet", num_classes, encoder, encoder_weights, input_shape)


def PSPNet(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the PSPNet of segmentation-models; see `UNet`. Sizes must be divisible by 8."""
    return _baseline("pspnet", num_classes, encoder, encoder_weights, input_shape)


def _baseline(
    arch: str,
    num_classes: int,
    encoder: str,
    encoder_weights: str | None,
    input_shape: tuple[int | None, int | None, int],
) -> keras.Model:
    """Builds a network of segmentation-models; see `UNet`."""
    check_num_classes(num_classes)
    if encoder not in BASELINE_ENCODERS:
        raise InputError(
            f"Unknown encoder of {arch}. Received: {encoder!r}. "
            f"Choose one of {list(BASELINE_ENCODERS)}."
        )
    divisor = BASELINES[arch].size_divisor
    network = _package_network(arch, num_classes, encoder, encoder_weights)
    encoder_layers, decoder_layers, features = _split(network)
    copies = _copies(network.layers[1:])

    inputs = keras.Input(input_shape, name="image")
    preprocessed = EncoderPreprocessing(
        BASELINE_ENCODERS[encoder], size_divisor=divisor, name="preprocessing"
    )(inputs)
    outputs = _connect(encoder_layers, copies, network.inputs, [preprocessed], features)
    backbone = keras.Model(inputs, outputs, name="encoder")

    inputs = keras.Input(input_shape, name="image")
    outputs = keras.tree.flatten(backbone(inputs))
    (logits,) = _connect(decoder_layers, copies, features, outputs, network.outputs)
    for layer in network.layers:
        if layer.weights:
            copies[layer.name].set_weights(layer.get_weights())
    return keras.Model(inputs, logits, name=arch)


def _package_network(
    arch: str, num_classes: int, encoder: str, encoder_weights: str | None
) -> keras.Model:
    """Builds the network as segmentation-models does, for images of one size."""
    file_kind = f"segmentation-models' {encoder} without its top"
    check_weights_file(encoder_weights, file_kind)
    require_extra("baselines")
    os.environ["SM_FRAMEWORK"] = "tf.keras"  # it reads this once, when it is imported
    with contextlib.redirect_stdout(io.StringIO()):  # and prints it
        import segmentation_models
    try:
        with warnings.catch_warnings():
            # MobileNets warn that this size gets the weights made for 224x224, as any size should.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined.*")
            return getattr(segmentation_models, BASELINES[arch].function)(
                encoder,
                input_shape=(_PACKAGE_SIZE, _PACKAGE_SIZE, 3),
                classes=num_classes,
                activation="linear",
                encoder_weights=encoder_weights,
            )
    except Exception as error:
        if encoder_weights is None:
            raise
        hint = "Give the matching file, or another `encoder`."
        raise weights_error(encoder, encoder_weights, file_kind, error, hint) from error


def _split(network: keras.Model) -> tuple[list, list, list[keras.KerasTensor]]:
    """Splits a network into its backbone and its decoder.

    Returns:
        The layers of the backbone and those of the decoder, each in the order in which they are
        called, and what passes from one to the other, in the order in which the decoder takes it.
    """
    encoder, decoder, decoded, features = [], [], set(), {}
    for layer in network.layers[1:]:
        inputs = {id(x): x for x in keras.tree.flatten(layer.input)}
        if _DECODER.match(layer.name) or not decoded.isdisjoint(inputs):
            decoder.append(layer)
            decoded.add(id(layer.output))
            features |= {key: x for key, x in inputs.items() if key not in decoded}
        else:
            encoder.append(layer)
    return encoder, decoder, list(features.values())


def _copies(layers: list[keras.layers.Layer]) -> dict[str, Callable]:
    """New layers, without weights as yet, for all layers of a network, by the names of those.

    Names that Keras made up by counting are counted anew, so that they are the same in each build.
    """
    counts = Counter()
    copies = {}
    *_, last_convolution = (x for x in layers if isinstance(x, keras.layers.Conv2D))
    in_head = False
    for layer in layers:
        name, kind = layer.name, type(layer).__name__.lower()
        if re.sub(r"_\d+$", "", name).replace("_", "") == kind:
            counts[kind] += 1
            name = f"{kind}_{counts[kind]}"
        in_head = in_head or layer is last_convolution
        copies[layer.name] = _copy(layer, name, "float32" if in_head else layer.dtype_policy.name)
    return copies


def _copy(layer: keras.layers.Layer, name: str, dtype: str) -> Callable:
    """Copies a layer; what could not be saved, or exported for any size, is replaced."""
    config = layer.get_config() | {"name": name, "dtype": dtype}
    if level := re.match(r"psp_level(\d)_(pooling|upsampling)", name):
        if level[2] == "pooling":
            return AdaptiveAveragePooling(int(level[1]), name=name, dtype=dtype)
        return lambda x: x  # `ConcatenateResized` upsamples
    if name == "psp_concat":
        return ConcatenateResized(name=name, dtype=dtype)
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "bilinear":
        return BilinearUpsampling(layer.size[0], name=name, dtype=dtype)
    if isinstance(layer, keras.layers.Lambda):
        # Slices, new axes and sums: Keras makes operations of them that it can save.
        return partial(layer.function, **layer.arguments)
    if isinstance(layer, keras.layers.Dropout):
        return keras.layers.Dropout.from_config(config)  # efficientnet has a class of its own
    if isinstance(layer, keras.layers.BatchNormalization):
        config["momentum"] = 0.9  # for the reason that `build_encoder` gives
    if isinstance(config.get("activation"), dict):
        config["activation"] = "silu"  # efficientnet has a function of its own for it
    return type(layer).from_config(config)


def _connect(
    layers: list[keras.layers.Layer],
    copies: dict[str, Callable],
    inputs: list[keras.KerasTensor],
    onto: list[keras.KerasTensor],
    outputs: list[keras.KerasTensor],
) -> list[keras.KerasTensor]:
    """Connects the copies of layers as those are connected from inputs to outputs, onto others."""
    tensors = {id(x): new for x, new in zip(inputs, onto, strict=True)}
    for layer in layers:
        arguments = keras.tree.map_structure(lambda x: tensors[id(x)], layer.input)
        tensors[id(layer.output)] = copies[layer.name](arguments)
    return [tensors[id(x)] for x in outputs]
