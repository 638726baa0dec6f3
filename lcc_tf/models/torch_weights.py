"""Loads PyTorch weights: ResNets of torchvision and timm, and whole networks of smp.

smp is segmentation_models_pytorch, https://github.com/qubvel-org/segmentation_models.pytorch,
versions 0.5 and 0.6. A state dict is a mapping of names to arrays. The axes of a convolution kernel
are `(output, input, height, width)` in PyTorch and `(height, width, input, output)` in Keras.
PyTorch is not needed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.models.preprocessing import IMAGENET_STATISTICS
from lcc_tf.models.resnet_v1_5 import RESNETS, ResNetVariant

# torchvision's classifier, which an encoder does not need
CLASSIFIER = ("fc.weight", "fc.bias")
LISTED = 6  # maximum number of names per kind of fault in an error
# For each Keras variable: PyTorch's name within the module, and PyTorch's axes in Keras' order.
_VARIABLES = {
    "kernel": ("weight", (2, 3, 1, 0)),
    "bias": ("bias", (0,)),
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
    # In smp, a separable convolution is a sequence of two convolutions.
    "depthwise_kernel": ("0.weight", (2, 3, 0, 1)),
    "pointwise_kernel": ("1.weight", (2, 3, 1, 0)),
}

# smp's module for each layer of `DeepLabV3Plus`. `_deeplabv3plus_modules` adds the atrous branches,
# whose layers are named after their dilation rates.
_DEEPLABV3PLUS_MODULES = {
    "aspp_1x1_conv": "decoder.aspp.0.convs.0.0",
    "aspp_1x1_conv_bn": "decoder.aspp.0.convs.0.1",
    "aspp_pool_conv": "decoder.aspp.0.convs.4.1",
    "aspp_pool_conv_bn": "decoder.aspp.0.convs.4.2",
    "aspp_project_conv": "decoder.aspp.0.project.0",
    "aspp_project_conv_bn": "decoder.aspp.0.project.1",
    "decoder_aspp_conv": "decoder.aspp.1",
    "decoder_aspp_conv_bn": "decoder.aspp.2",
    "decoder_low_level_conv": "decoder.block1.0",
    "decoder_low_level_conv_bn": "decoder.block1.1",
    "decoder_conv": "decoder.block2.0",
    "decoder_conv_bn": "decoder.block2.1",
    "head_logits": "segmentation_head.0",
}


class StateDictDescription(NamedTuple):
    """Architecture, encoder and number of classes of the model that a state dict belongs to."""

    arch: str  # key of `lcc_tf.models.ARCHITECTURES`
    encoder: str  # key of `lcc_tf.models.ENCODERS`
    num_classes: int


class _Target(NamedTuple):
    """Variable that a PyTorch array is assigned to."""

    variable: keras.Variable
    axes: tuple[int, ...]  # PyTorch's axes in the order of the variable's axes

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape of the PyTorch array."""
        return tuple(self.variable.shape[self.axes.index(axis)] for axis in range(len(self.axes)))


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads the weights of smp's `UnetPlusPlus` or `DeepLabV3Plus` into the same network in Keras.

    Both networks then compute the same logits, if `model` has the same settings. The weights do not
    contain these settings:

    - `DeepLabV3Plus`: use `align_corners=True`, `dilation_rates=(12, 24, 36)` and smp's output
      stride.
    - Scaling of the images in training: see `preprocessing` of `build_encoder`.

    Args:
        model: a model of `UNetPlusPlus` or `DeepLabV3Plus` with an encoder in torchvision's form,
            without deep supervision.
        state_dict: arrays by smp's names. A Lightning module's state dict is accepted too: its
            names start with `model.`, and it may contain ImageNet's `mean` and `std`.

    Raises:
        InputError: another network, or names or shapes that do not match; nothing is loaded.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus, read_torch_weights
        >>> model = UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None)
        >>> state_dict = read_torch_weights("model.safetensors")  # doctest: +SKIP
        >>> load_torch_state_dict(model, state_dict)  # doctest: +SKIP
    """
    weights = _without_prefix(state_dict)
    targets = dict(_network_targets(model))
    statistics = [name for name in IMAGENET_STATISTICS if name in weights]
    for name in statistics:
        _check_statistics(model, name, weights[name])
    _assign(targets, weights, f"the model {model.name!r}", ignored=statistics)


def load_torch_encoder(network: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads the weights of a ResNet of torchvision or timm.

    Variants of timm with the same names and shapes, such as `resnetaa50` and `resnetblur50`, cannot
    be distinguished and load without an error.

    Args:
        network: a model of `resnet_v1_5`.
        state_dict: arrays by torchvision's names; the classifier is ignored.

    Raises:
        InputError: names or shapes do not match; nothing is loaded.
    """
    targets = dict(_targets(network.layers, _resnet_module))
    _assign(targets, state_dict, "the ResNet", ignored=CLASSIFIER)


def describe(state_dict: Mapping[str, np.ndarray]) -> StateDictDescription:
    """Identifies the network that a state dict of smp belongs to, from names and shapes.

    Args:
        state_dict: arrays by their names; see `load_torch_state_dict`.

    Raises:
        InputError: the network is not a `UnetPlusPlus` or `DeepLabV3Plus` with a ResNet encoder.
    """
    weights = _without_prefix(state_dict)
    arch = None
    if "decoder.blocks.x_0_4.conv1.0.weight" in weights:
        arch = "unetpp"
    elif "decoder.block2.0.0.weight" in weights:
        arch = "deeplabv3plus"
    blocks = tuple(
        len(set(re.findall(rf"^encoder\.layer{stage}\.(\d+)\.", "\n".join(weights), re.MULTILINE)))
        for stage in range(1, 5)
    )
    variant = ResNetVariant("encoder.layer1.0.conv3.weight" in weights, blocks)
    # Wide ResNets and ResNeXts have the same names, but another shape of this kernel.
    is_resnet = np.shape(weights.get("encoder.layer1.0.conv2.weight", ())) == (64, 64, 3, 3)
    encoders = [name for name, known in RESNETS.items() if known == variant and is_resnet]
    head = np.shape(weights.get("segmentation_head.0.weight", ()))
    if arch is None or not encoders or len(head) != 4:
        raise InputError(
            "The state dict must belong to UnetPlusPlus or DeepLabV3Plus of "
            "segmentation_models_pytorch, with a ResNet encoder. "
            f"Received {len(weights)} names, such as {list(weights)[:3]}. Recognized: "
            f"decoder {arch}, encoder {encoders[0] if encoders else None} (blocks per stage: "
            f"{blocks}), shape of the head's kernel {head or None}."
        )
    return StateDictDescription(arch, encoders[0], head[0])


def _without_prefix(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Removes the prefix `model.` of a Lightning module's names."""
    weights = {name.removeprefix("model."): array for name, array in state_dict.items()}
    if len(weights) < len(state_dict):
        raise InputError(
            "The state dict contains two networks: names with and without the prefix `model.`. "
            "Remove one network."
        )
    return weights


def _check_statistics(model: keras.Model, name: str, values: np.ndarray) -> None:
    """Verifies that a Lightning module's `mean` or `std` equals the one that `model` uses."""
    mode = model.get_layer("encoder").get_layer("preprocessing").mode
    expected = IMAGENET_STATISTICS[name]
    received = np.ravel(values).astype(np.float32)
    if mode not in ("torch", "torch_255") or not np.array_equal(
        received, np.array(expected, np.float32)
    ):
        raise InputError(
            f"The state dict's {name!r} must be ImageNet's {expected}, and the model's "
            f"preprocessing 'torch' or 'torch_255'. Received: {name}={received}, "
            f"preprocessing={mode!r}. For images with another preprocessing, remove `mean` and "
            "`std` from the state dict and build the model with that `preprocessing`."
        )


def _network_targets(model: keras.Model) -> Iterator[tuple[str, _Target]]:
    """Yields smp's name and the target of each variable of a model."""
    if model.name not in ("unetpp", "deeplabv3plus"):
        raise InputError(
            "Whole networks from PyTorch load into 'unetpp' and 'deeplabv3plus' only. "
            f"Received a model named {model.name!r}."
        )
    if len(model.outputs) > 1:
        raise InputError(
            "PyTorch weights load into UNet++ without deep supervision only, because "
            "segmentation_models_pytorch has no deep supervision. Build the model with "
            "`deep_supervision=False`."
        )
    encoder = model.get_layer("encoder")
    for name, target in _targets(encoder.layers, _resnet_module):
        yield f"encoder.{name}", target
    decoder = [layer for layer in model.layers if layer is not encoder]
    if model.name == "unetpp":
        yield from _targets(decoder, _unetpp_module)
    else:
        modules = _deeplabv3plus_modules(decoder)
        yield from _targets(decoder, lambda layer: _module(modules, layer))


def _targets(
    layers: Sequence[keras.layers.Layer], module_of: Callable[[keras.layers.Layer], str]
) -> Iterator[tuple[str, _Target]]:
    """Yields PyTorch's name and the target of each variable of some layers."""
    for layer in layers:
        if not layer.weights:
            continue
        module = module_of(layer)
        for variable in layer.weights:
            suffix, axes = _VARIABLES[variable.name]
            yield f"{module}.{suffix}", _Target(variable, axes)


def _resnet_module(layer: keras.layers.Layer) -> str:
    """Returns torchvision's module for a layer of `resnet_v1_5`."""
    match = re.fullmatch(r"conv([1-5])_(?:block(\d+)_([0-3])_)?(conv|bn)", layer.name)
    if match is None or getattr(layer, "use_bias", False):
        raise InputError(
            f"PyTorch weights load into the encoders {list(RESNETS)} only. Received a model whose "
            f"encoder has the layer {layer.path!r}, which does not exist in these encoders, or "
            "has no bias there."
        )
    stage, block, index, kind = match.groups()
    if block is None:
        return f"{kind}1"
    parent = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{parent}.downsample.{'0' if kind == 'conv' else '1'}"
    return f"{parent}.{kind}{index}"


def _unetpp_module(layer: keras.layers.Layer) -> str:
    """Returns smp's module for a layer of `UNetPlusPlus`.

    Block x_{d}_{l} of smp is node X^{3-l,l-d+1} of the paper.
    """
    if layer.name == "head_logits":
        return "segmentation_head.0"
    match = re.fullmatch(r"(?:x_(\d)_(\d)|full_resolution)_conv([12])(_bn)?", layer.name)
    if match is None:
        raise _unknown_layer(layer)
    level, column, index, normalization = match.groups()
    block = "x_0_4" if level is None else f"x_{4 - int(level) - int(column)}_{3 - int(level)}"
    return f"decoder.blocks.{block}.conv{index}.{'1' if normalization else '0'}"


def _module(modules: Mapping[str, str], layer: keras.layers.Layer) -> str:
    """Returns smp's module for a layer of `DeepLabV3Plus`."""
    if layer.name not in modules:
        raise _unknown_layer(layer)
    return modules[layer.name]


def _unknown_layer(layer: keras.layers.Layer) -> InputError:
    return InputError(
        f"segmentation_models_pytorch has no layer for {layer.path!r}. Build the model with "
        "`UNetPlusPlus` or `DeepLabV3Plus`, and do not replace its layers."
    )


def _deeplabv3plus_modules(layers: Sequence[keras.layers.Layer]) -> dict[str, str]:
    """Returns smp's module for each layer name of the decoder of `DeepLabV3Plus`."""
    modules = dict(_DEEPLABV3PLUS_MODULES)
    atrous = [layer.name for layer in layers if re.fullmatch(r"aspp_rate\d+_conv", layer.name)]
    for index, name in enumerate(atrous, start=1):
        modules[name] = f"decoder.aspp.0.convs.{index}.0"
        modules[f"{name}_bn"] = f"decoder.aspp.0.convs.{index}.1"
    return modules


def _assign(
    targets: Mapping[str, _Target],
    state_dict: Mapping[str, np.ndarray],
    network: str,
    ignored: Sequence[str],
) -> None:
    """Assigns each array to its variable, if names and shapes match; otherwise assigns none.

    Args:
        targets: variables by PyTorch's names.
        state_dict: arrays by PyTorch's names.
        network: name of the network, for the error.
        ignored: names in the state dict that are not loaded.
    """
    # PyTorch counts the batches of its moving statistics; Keras does not.
    received = {
        name: array
        for name, array in state_dict.items()
        if name not in ignored and not name.endswith(".num_batches_tracked")
    }
    faults = {
        "missing in the state dict": [
            f"{name} (for {target.variable.path})"
            for name, target in targets.items()
            if name not in received
        ],
        "unexpected in the state dict": [name for name in received if name not in targets],
        "of another shape": [
            f"{name}, received {np.shape(received[name])}, expected {target.torch_shape}"
            for name, target in targets.items()
            if name in received and np.shape(received[name]) != target.torch_shape
        ],
    }
    if any(faults.values()):
        lists = "; ".join(
            f"{len(names)} {fault}: {', '.join(names[:LISTED])}"
            + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
            for fault, names in faults.items()
            if names
        )
        raise InputError(
            f"The state dict does not match {network}; nothing was loaded. Expected "
            f"{len(targets)} arrays, received {len(received)}: {lists}. Build the network with "
            "the architecture, the encoder and the number of classes of the weights."
        )
    for name, target in targets.items():
        target.variable.assign(np.transpose(np.asarray(received[name]), target.axes))
