"""Loads the PyTorch weights of ResNets (torchvision, timm) and of whole networks (smp).

smp is segmentation_models_pytorch, https://github.com/qubvel-org/segmentation_models.pytorch,
versions 0.5 and 0.6. A state dict is a dictionary (key: name, value: array). The axes of a
convolution kernel are `(output, input, height, width)` in PyTorch and
`(height, width, input, output)` in Keras. This module works without PyTorch.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.models.preprocessing import IMAGENET_STATISTICS
from lcc_tf.models.resnet_v1_5 import RESNETS, ResNetVariant
from lcc_tf.models.weight_values import check_finite

# Names of the arrays of torchvision's classifier, which an encoder does not need
CLASSIFIER = ("fc.weight", "fc.bias")
# Modules of a network in smp
_MODULES = ("encoder", "decoder", "segmentation_head")
LISTED = 6  # maximum number of names per kind of mismatch in an error message
# Key: name of a Keras variable. Value: name of the PyTorch array in the PyTorch module, and axes of
# the PyTorch array in the order of the Keras axes.
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

# Key: layer of `DeepLabV3Plus`. Value: module of smp. `_deeplabv3plus_modules` adds the layers of
# the atrous branches, because their names contain the dilation rates of the model.
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
    """Architecture, encoder and number of classes of the network in a state dict."""

    arch: str  # key of `lcc_tf.models.ARCHITECTURES`
    encoder: str  # key of `lcc_tf.models.ENCODERS`
    num_classes: int


class _Target(NamedTuple):
    """Keras variable for the values of a PyTorch array."""

    variable: keras.Variable
    axes: tuple[int, ...]  # PyTorch's axes in the order of the variable's axes

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape of the PyTorch array."""
        return tuple(self.variable.shape[self.axes.index(axis)] for axis in range(len(self.axes)))


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads the weights of smp's `UnetPlusPlus` or `DeepLabV3Plus` into the same network in Keras.

    After loading, the networks in smp and Keras compute the same logits if they have the same
    settings. The state dict does not contain these settings, therefore build `model` with them:

    - For `DeepLabV3Plus`, use `align_corners=True`, `dilation_rates=(12, 24, 36)` and the output
      stride of the smp network.
    - For the scaling of the training images, use the matching `preprocessing`; see `build_encoder`.

    Args:
        model: a model of `UNetPlusPlus` or `DeepLabV3Plus`. The name of its encoder must end in
            `_v1.5` (a ResNet with the layers of torchvision). The model must have no deep
            supervision.
        state_dict: key: name in smp. Value: array. The names may have a prefix, for example in
            the state dict of a Lightning module. Arrays outside of the network are ignored, except
            `mean` and `std`, which must have the values of ImageNet.

    Raises:
        InputError: `model` is another network, names or shapes do not match, or the state dict
            contains NaN or infinite values. In this case, no weights are loaded.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus, read_torch_weights
        >>> model = UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None)
        >>> state_dict = read_torch_weights("model.safetensors")  # doctest: +SKIP
        >>> load_torch_state_dict(model, state_dict)  # doctest: +SKIP
    """
    weights, _ = network_arrays(state_dict)
    targets = dict(_network_targets(model))
    statistics = [name for name in IMAGENET_STATISTICS if name in weights]
    for name in statistics:
        _check_statistics(model, name, weights[name])
    _assign(targets, weights, f"the model {model.name!r}", ignored=statistics)


def load_torch_encoder(network: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads the weights of a ResNet of torchvision or timm.

    Some networks of timm, such as `resnetaa50` and `resnetblur50`, are not ResNets of torchvision,
    but their weights have the same names and shapes. This function cannot detect such weights, and
    loads them without an error. The features of the network are then wrong.

    Args:
        network: a model that `resnet_v1_5` returned.
        state_dict: key: name in torchvision. Value: array. The classifier is ignored.

    Raises:
        InputError: names or shapes do not match. In this case, no weights are loaded.
    """
    targets = dict(_targets(network.layers, _resnet_module))
    _assign(targets, state_dict, "the ResNet", ignored=CLASSIFIER)


def describe(state_dict: Mapping[str, np.ndarray]) -> StateDictDescription:
    """Identifies the network of an smp state dict from the names and shapes of the arrays.

    Args:
        state_dict: key: name in smp. Value: array; see `load_torch_state_dict`.

    Raises:
        InputError: the network is not a `UnetPlusPlus` or `DeepLabV3Plus` with a ResNet encoder.
    """
    weights, _ = network_arrays(state_dict)
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
    # Wide ResNets and ResNeXts have the same names, but this kernel has another shape.
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


def network_arrays(
    state_dict: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Finds the arrays of the network in a state dict, and removes the prefix of their names.

    Wrappers of PyTorch add components to names: `_orig_mod` (`torch.compile`), `module`
    (`DataParallel`), and the name of the attribute of a Lightning module, such as `model`.

    Args:
        state_dict: key: name of an array. Value: the array.

    Returns:
        Two values:

        - Dictionary of the arrays of the network, and of `mean` and `std` of smp's Lightning
          module. Key: name in smp. Value: array.
        - Names of the other arrays, such as class weights of a loss.

    Raises:
        InputError: the state dict contains two networks, such as a network and its moving average.
    """
    plain = {_without_wrappers(name): name for name in state_dict}
    prefixes: list[str] = []
    for anchor in ("segmentation_head.0.weight", "encoder.conv1.weight"):
        anchors = [name for name in plain if f".{name}".endswith(f".{anchor}")]
        prefixes = prefixes or [name.removesuffix(anchor) for name in anchors]
    if len(prefixes) > 1:
        raise InputError(
            "The state dict must contain one network. Received: networks with the prefixes "
            f"{prefixes}. Keep only the arrays of one network."
        )
    if twice := [name for name in state_dict if plain[_without_wrappers(name)] != name]:
        raise InputError(
            "The state dict must contain one network. Received: networks with and without a "
            f"wrapper, {twice[0]!r} and {plain[_without_wrappers(twice[0])]!r}. Keep only the "
            "arrays of one network."
        )
    if not prefixes:
        return dict(state_dict), ()
    weights, others = {}, []
    for name, original in plain.items():
        inner = name.removeprefix(prefixes[0])
        if name.startswith(prefixes[0]) and inner.split(".")[0] in _MODULES:
            weights[inner] = state_dict[original]
        elif name in IMAGENET_STATISTICS:
            weights[name] = state_dict[original]
        else:
            others.append(original)
    return weights, tuple(others)


def as_two_classes(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds a background class to a network with one output channel and a sigmoid.

    The logit of the background is 0. The softmax of `[0, z]` is `[1 - sigmoid(z), sigmoid(z)]`.
    Therefore the probabilities do not change.

    Args:
        weights: key: name in smp. Value: array; see `network_arrays`.

    Returns:
        The arrays of a network with two output channels, background and class.
    """
    head = ("segmentation_head.0.weight", "segmentation_head.0.bias")
    return {
        name: np.concatenate([np.zeros_like(array), array]) if name in head else array
        for name, array in weights.items()
    }


def _without_wrappers(name: str) -> str:
    """Removes the components of `torch.compile` and `DataParallel` from a name."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))


def _check_statistics(model: keras.Model, name: str, values: np.ndarray) -> None:
    """Verifies that `mean` or `std` of a Lightning module equals the value that `model` uses."""
    mode = model.get_layer("encoder").get_layer("preprocessing").mode
    expected = IMAGENET_STATISTICS[name]
    received = np.ravel(values).astype(np.float32)
    if mode not in ("torch", "torch_255") or not np.array_equal(
        received, np.array(expected, np.float32)
    ):
        raise InputError(
            f"{name!r} in the state dict must be {expected}, the values of ImageNet. The "
            "preprocessing of the model must be 'torch' or 'torch_255'. "
            f"Received: {name}={received}, preprocessing={mode!r}. If the images had another "
            "preprocessing in training, remove `mean` and `std` from the state dict and build the "
            "model with that `preprocessing`."
        )


def _network_targets(model: keras.Model) -> Iterator[tuple[str, _Target]]:
    """Yields, for each variable of a model, the name of the smp array and the target."""
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
    """Yields, for each variable of some layers, the name of the PyTorch array and the target."""
    for layer in layers:
        if not layer.weights:
            continue
        module = module_of(layer)
        for variable in layer.weights:
            suffix, axes = _VARIABLES[variable.name]
            yield f"{module}.{suffix}", _Target(variable, axes)


def _resnet_module(layer: keras.layers.Layer) -> str:
    """Returns the name of torchvision's module for a layer of `resnet_v1_5`."""
    match = re.fullmatch(r"conv([1-5])_(?:block(\d+)_([0-3])_)?(conv|bn)", layer.name)
    if match is None or getattr(layer, "use_bias", False):
        raise InputError(
            f"PyTorch weights load into the encoders {list(RESNETS)} only. Received a model whose "
            f"encoder has the layer {layer.path!r}. The supported encoders do not have this layer, "
            "or their layer has no bias."
        )
    stage, block, index, kind = match.groups()
    if block is None:
        return f"{kind}1"
    parent = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{parent}.downsample.{'0' if kind == 'conv' else '1'}"
    return f"{parent}.{kind}{index}"


def _unetpp_module(layer: keras.layers.Layer) -> str:
    """Returns the name of smp's module for a layer of `UNetPlusPlus`.

    Layer names contain the node X^{i,j} of the paper (Zhou et al. 2018,
    https://arxiv.org/abs/1807.10165, figure 1a):

    - i is the level. Level 0 has the highest resolution.
    - j is the column. Column 0 is the encoder. After j upsamplings, the encoder feature of level
      i + j reaches the node.

    In smp, this node is the block x_{d}_{l}:

    - d is the number of this encoder feature. The deepest feature (level 4) has the number 0:
      d = 4 - (i + j).
    - l is the level, counted from the deepest decoder level: l = 3 - i.

    For example, X^{0,3} is x_1_3 in smp. The last block, `full_resolution`, is x_0_4 in smp.
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
    """Returns the name of smp's module for a layer of `DeepLabV3Plus`."""
    if layer.name not in modules:
        raise _unknown_layer(layer)
    return modules[layer.name]


def _unknown_layer(layer: keras.layers.Layer) -> InputError:
    return InputError(
        f"segmentation_models_pytorch has no layer for {layer.path!r}. Build the model with "
        "`UNetPlusPlus` or `DeepLabV3Plus`, and do not replace its layers."
    )


def _deeplabv3plus_modules(layers: Sequence[keras.layers.Layer]) -> dict[str, str]:
    """Returns the modules of smp. Key: name of a decoder layer of `DeepLabV3Plus`."""
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
    """Assigns each array to its variable after a check of all names and shapes.

    Args:
        targets: key: name of a PyTorch array. Value: Keras variable for this array.
        state_dict: key: name of a PyTorch array. Value: the array.
        network: name of the network, for the error message.
        ignored: names of arrays in the state dict that are not loaded.

    Raises:
        InputError: a name, a shape or a type does not match, or a value is not finite. In this
            case, no array is assigned.
    """
    # Skip the numbers of batches in PyTorch's moving statistics, which do not exist in Keras.
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
        # Quantized weights are integers. Without their scale factors, the values would be wrong.
        "not of a floating point type": [
            f"{name}, received {np.asarray(array).dtype}"
            for name, array in received.items()
            if np.asarray(array).dtype.kind in "biuc"
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
    check_finite(received.items(), "The state dict")
    for name, target in targets.items():
        target.variable.assign(np.transpose(np.asarray(received[name]), target.axes))
