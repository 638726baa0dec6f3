"""UNet, FPN, LinkNet and PSPNet of the package segmentation-models, with its backbones.

In this module, the four networks are called baselines, and their encoders backbones. The package
builds each network. Then this module rebuilds the network with the same weights. Like
`UNetPlusPlus`, the rebuilt network has these properties:

- preprocessing inside the network,
- a layer "encoder" that can be frozen,
- float32 logits,
- images of any size,
- only layers that can be saved and exported.

Sources of the networks and of the package:

- UNet: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597
- FPN: Kirillov et al. 2019, https://arxiv.org/abs/1901.02446
- LinkNet: Chaurasia & Culurciello 2017, https://arxiv.org/abs/1707.03718
- PSPNet: Zhao et al. 2017, https://arxiv.org/abs/1612.01105
- the package: https://github.com/qubvel/segmentation_models
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
from typing import Any

import keras

from lcc_tf.arguments import check_num_classes
from lcc_tf.errors import InputError, require_extra
from lcc_tf.models.encoder_weights import (
    check_weights_file,
    clear_download_errors,
    clear_file_errors,
)
from lcc_tf.models.normalization import BatchNormalization
from lcc_tf.models.preprocessing import EncoderPreprocessing, input_shape_of
from lcc_tf.models.resampling import (
    AdaptiveAveragePooling,
    BilinearUpsampling,
    ConcatenateResized,
)

# Key: name of a backbone of segmentation-models. Value: mode of `EncoderPreprocessing` that the
# ImageNet weights of the backbone expect.
# densenet121, densenet169 and densenet201 are missing, because their layer names contain a "/",
# which Keras 3 rejects. The construction of senet154 and of backbones with "next" in their names
# takes 30 seconds to several minutes. The reason is that these backbones split each grouped
# convolution into 32 or 64 small convolutions, and therefore have up to 7,000 layers.
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

    function: str  # name of the function in the package
    size_divisor: int  # largest stride of the features


BASELINES = {
    "unet": Baseline("Unet", 32),
    "fpn": Baseline("FPN", 32),
    "linknet": Baseline("Linknet", 32),
    "pspnet": Baseline("PSPNet", 8),
}

# Beginnings of the names of the first decoder layers. All other decoder layers depend on the first
# decoder layers, so that `_split` can find all decoder layers.
_DECODER = re.compile(r"center_block|decoder_stage|fpn_stage|psp_")
# Image height and width, in pixels, for which the package builds each network. The PSPNet of the
# package needs a multiple of 48, and its default is 384. Do not use another multiple of 48: for
# some sizes, such as 192, MobileNets load weights for that size instead of 224.
_PACKAGE_SIZE = 384


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
        encoder_weights: "imagenet" (segmentation-models downloads these weights on first use), None
            for random weights, or the path of a weights file of the backbone without its
            classifier.
        input_shape: `(height, width, 3)`, in pixels. Height and width must be divisible by 32. A
            height or width that can vary is None.

    Returns:
        A model that maps images, float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits,
        float32 `(batch, height, width, num_classes)`. The layer "encoder" contains the
        preprocessing and the backbone.

    Raises:
        InputError: segmentation-models is not installed; the encoder is unknown; the weights cannot
            be downloaded or loaded; `input_shape` is not `(height, width, 3)`; or a height or width
            is not divisible by 32.

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
    """Builds the FPN of segmentation-models, with the same arguments and errors as `UNet`.

    Example:
        >>> FPN(7, encoder="resnet18", encoder_weights=None).output_shape
        (None, None, None, 7)
    """
    return _baseline("fpn", num_classes, encoder, encoder_weights, input_shape)


def Linknet(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the LinkNet of segmentation-models, with the same arguments and errors as `UNet`.

    Example:
        >>> Linknet(7, encoder="resnet18", encoder_weights=None).output_shape
        (None, None, None, 7)
    """
    return _baseline("linknet", num_classes, encoder, encoder_weights, input_shape)


def PSPNet(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> keras.Model:
    """Builds the PSPNet of segmentation-models, with the same arguments and errors as `UNet`.

    Unlike in `UNet`, height and width must be divisible by 8, not by 32.

    Example:
        >>> PSPNet(7, encoder="resnet18", encoder_weights=None).output_shape
        (None, None, None, 7)
    """
    return _baseline("pspnet", num_classes, encoder, encoder_weights, input_shape)


def _baseline(
    arch: str,
    num_classes: int,
    encoder: str,
    encoder_weights: str | None,
    input_shape: tuple[int | None, int | None, int],
) -> keras.Model:
    """Builds the network of segmentation-models with the name `arch`; see `UNet`."""
    num_classes = check_num_classes(num_classes)
    if encoder not in BASELINE_ENCODERS:
        raise InputError(
            f"Unknown encoder for {arch}. Received: {encoder!r}. "
            f"Choose one of {list(BASELINE_ENCODERS)}."
        )
    input_shape = input_shape_of(input_shape)
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
    """Builds the network with segmentation-models, for images of one size."""
    contents = f"segmentation-models' {encoder} without its classifier"
    check_weights_file(encoder_weights, contents)
    require_extra("baselines")
    os.environ["SM_FRAMEWORK"] = "tf.keras"  # the package reads this variable when it is imported
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints its framework
        import segmentation_models
    clear_errors: contextlib.AbstractContextManager[None]
    if encoder_weights is None:
        clear_errors = contextlib.nullcontext()
    elif encoder_weights == "imagenet":
        clear_errors = clear_download_errors(encoder)
    else:
        hint = "Use the weights file of this encoder, or another `encoder`."
        clear_errors = clear_file_errors(encoder_weights, contents, hint)
    with warnings.catch_warnings(), clear_errors:
        # For this image size, MobileNets warn that they load the weights for 224x224 images.
        warnings.filterwarnings("ignore", message=".*`input_shape` is undefined.*")
        return getattr(segmentation_models, BASELINES[arch].function)(
            encoder,
            input_shape=(_PACKAGE_SIZE, _PACKAGE_SIZE, 3),
            classes=num_classes,
            activation="linear",
            encoder_weights=encoder_weights,
        )


def _split(network: keras.Model) -> tuple[list, list, list[keras.KerasTensor]]:
    """Splits a network into its backbone and its decoder.

    Returns:
        Three lists, each in the order of computation:

        - layers of the backbone,
        - layers of the decoder,
        - features: outputs of the backbone that the decoder uses.
    """
    encoder, decoder = [], []
    decoded: set[int] = set()  # `id` of each output of a decoder layer
    features: dict[int, keras.KerasTensor] = {}
    for layer in network.layers[1:]:
        inputs = {id(x): x for x in keras.tree.flatten(layer.input)}
        if _DECODER.match(layer.name) or not decoded.isdisjoint(inputs):
            decoder.append(layer)
            decoded.add(id(layer.output))
            features |= {key: x for key, x in inputs.items() if key not in decoded}
        else:
            encoder.append(layer)
    return encoder, decoder, list(features.values())


def _copies(layers: list[keras.layers.Layer]) -> dict[str, Any]:
    """Returns copies of layers without weights. Key: name of the original layer. Value: copy.

    Automatic names, such as "add_12", depend on the layers that Keras built before. The new layers
    are numbered from 1. Therefore the layers of each new network have the same names.
    """
    counts: Counter[str] = Counter()
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
    """Copies a layer; replaces layers that Keras cannot save or export for any image size."""
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
        # These layers compute slices, new axes and sums. If their functions are called directly,
        # Keras creates operations that can be saved.
        return partial(layer.function, **layer.arguments)
    if isinstance(layer, keras.layers.Dropout):
        # Replace the dropout class of EfficientNet, because Keras cannot load this class.
        return keras.layers.Dropout.from_config(config)
    if isinstance(layer, keras.layers.BatchNormalization):
        config["momentum"] = 0.9  # see the comment in `build_encoder`
        return BatchNormalization.from_config(config)
    if isinstance(config.get("activation"), dict):
        config["activation"] = "silu"  # the package defines this function itself
    return type(layer).from_config(config)


def _connect(
    layers: list[keras.layers.Layer],
    copies: dict[str, Any],
    inputs: list[keras.KerasTensor],
    new_inputs: list[keras.KerasTensor],
    outputs: list[keras.KerasTensor],
) -> list[keras.KerasTensor]:
    """Connects copies of layers in the same way as the original layers.

    Args:
        layers: the original layers, in the order of computation.
        copies: key: name of an original layer. Value: copy of this layer.
        inputs: input tensors of the original layers.
        new_inputs: input tensors of the copies, one per tensor of `inputs`.
        outputs: output tensors of the original layers.

    Returns:
        Output tensors of the copies, one per tensor of `outputs`.
    """
    tensors = {id(x): new for x, new in zip(inputs, new_inputs, strict=True)}
    for layer in layers:
        arguments = keras.tree.map_structure(lambda x: tensors[id(x)], layer.input)
        tensors[id(layer.output)] = copies[layer.name](arguments)
    return [tensors[id(x)] for x in outputs]
