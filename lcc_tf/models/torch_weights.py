"""Weights of PyTorch models: torchvision's and timm's ResNets, whole networks of smp.

smp is segmentation_models_pytorch, https://github.com/qubvel-org/segmentation_models.pytorch; its
names are those of versions 0.5 and 0.6. A state dict is a mapping of names to arrays. PyTorch keeps
the kernel of a convolution as `(output, input, height, width)`, Keras as `(height, width, input,
output)`. Nothing here needs PyTorch but reading its own file formats.
"""

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import safetensors
import safetensors.numpy

from lcc_tf.errors import InputError
from lcc_tf.models.preprocessing import IMAGENET_STATISTICS
from lcc_tf.models.resnet_v1_5 import RESNETS, ResNetVariant

TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Names of torchvision's classifier, which an encoder has no use for
CLASSIFIER = ("fc.weight", "fc.bias")
LISTED = 6  # names that an error lists of each kind
CONVERSION = (
    'python -c "import sys, torch, safetensors.torch as s; '
    "w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "s.save_file({k: v.contiguous() for k, v in w.get('state_dict', w).items()}, sys.argv[2])\" "
    "FILE weights.safetensors"
)

# Of each Keras variable: PyTorch's name within the module, and the order of PyTorch's axes in it.
_VARIABLES = {
    "kernel": ("weight", (2, 3, 1, 0)),
    "bias": ("bias", (0,)),
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
    # smp's separable convolution is a sequence of two.
    "depthwise_kernel": ("0.weight", (2, 3, 0, 1)),
    "pointwise_kernel": ("1.weight", (2, 3, 1, 0)),
}

# Our layers of DeepLabV3+ as smp's modules, but for the atrous branches, named by their rates.
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
    """Architecture, encoder and number of classes of a state dict's model."""

    arch: str  # key of `lcc_tf.models.ARCHITECTURES`
    encoder: str  # key of `lcc_tf.models.ENCODERS`
    num_classes: int


class _Target(NamedTuple):
    """Variable that an array is assigned to."""

    variable: keras.Variable
    axes: tuple[int, ...]  # PyTorch's axes in the order of the variable's

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The variable's shape as PyTorch has it."""
        return tuple(self.variable.shape[self.axes.index(axis)] for axis in range(len(self.axes)))


def read_torch_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a file of PyTorch's world, without running code that it may hold.

    Args:
        path: a `.safetensors` file, for which PyTorch is not needed; or a state dict or Lightning
            checkpoint written by `torch.save` (`.pth`, `.pt`, `.bin`, `.ckpt`), for which it is.

    Returns:
        Names and arrays; all floating-point numbers as float32.

    Raises:
        InputError: no such file, another format, a broken file, one with other objects than
            weights, or PyTorch is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file of weights at {str(path)!r}.")
    if path.suffix not in TORCH_SUFFIXES:
        raise InputError(
            f"Weights from PyTorch are read from files that end in {TORCH_SUFFIXES}. "
            f"Received: {str(path)!r}. A `.h5` file holds weights of Keras: give it with the "
            "encoder that it was made for."
        )
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(
                f"The file {str(path)!r} is not a whole safetensors file: {error}. Fetch it again."
            ) from error
    else:
        weights = _read_pickled(path)
    return {
        name: array.astype(np.float32) if _is_floating(array) else array
        for name, array in weights.items()
    }


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads a trained `UnetPlusPlus` or `DeepLabV3Plus` of smp into the same network of ours.

    The networks then compute the same logits, if `model` was built as smp's was. For
    `DeepLabV3Plus` that is `DeepLabV3Plus(..., align_corners=True, dilation_rates=(12, 24, 36))`
    with smp's output stride; weights can't tell whether it was. Nor can they tell what the images
    were divided by: see `preprocessing` of `build_encoder`.

    Args:
        model: made by `UNetPlusPlus` or `DeepLabV3Plus` with an encoder in torchvision's form,
            without deep supervision.
        state_dict: smp's names and arrays, or a Lightning module's, which puts `model.` in front
            and may add `mean` and `std`, if they are ImageNet's.

    Raises:
        InputError: another network, or names, shapes or counts that don't fit; nothing is loaded.
    """
    weights = _without_prefix(state_dict)
    targets = dict(_network_targets(model))
    statistics = [name for name in IMAGENET_STATISTICS if name in weights]
    for name in statistics:
        _check_statistics(model, name, weights[name])
    _assign(targets, weights, f"the model {model.name!r}", may_be_left=statistics)


def load_torch_encoder(network: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads a ResNet of torchvision or timm into `resnet_v1_5`.

    timm has variants that differ in no name and no shape, such as `resnetaa50` and `resnetblur50`;
    those can't be told apart.

    Args:
        network: made by `resnet_v1_5`.
        state_dict: torchvision's names and arrays; its classifier is left out.

    Raises:
        InputError: names, shapes or counts that don't fit; nothing is loaded.
    """
    targets = dict(_targets(network.layers, _resnet_module))
    _assign(targets, state_dict, "the ResNet", may_be_left=CLASSIFIER)


def describe(state_dict: Mapping[str, np.ndarray]) -> StateDictDescription:
    """Reads from names and shapes which network of ours a state dict of smp belongs to.

    Args:
        state_dict: see `load_torch_state_dict`.

    Raises:
        InputError: it is not a `UnetPlusPlus` or `DeepLabV3Plus` with a ResNet encoder.
    """
    weights = _without_prefix(state_dict)
    arch = None  # the decoder's
    if "decoder.blocks.x_0_4.conv1.0.weight" in weights:
        arch = "unetpp"
    elif "decoder.block2.0.0.weight" in weights:
        arch = "deeplabv3plus"
    blocks = tuple(
        len(set(re.findall(rf"^encoder\.layer{stage}\.(\d+)\.", "\n".join(weights), re.MULTILINE)))
        for stage in range(1, 5)
    )
    variant = ResNetVariant("encoder.layer1.0.conv3.weight" in weights, blocks)
    # Its shape tells ResNets from wider ones and those with groups.
    is_resnet = np.shape(weights.get("encoder.layer1.0.conv2.weight")) == (64, 64, 3, 3)
    encoders = [name for name, known in RESNETS.items() if known == variant and is_resnet]
    head = tuple(np.shape(weights.get("segmentation_head.0.weight")))
    if arch is None or not encoders or len(head) != 4:
        raise InputError(
            "Expected the state dict of segmentation_models_pytorch's UnetPlusPlus or "
            f"DeepLabV3Plus with a ResNet encoder. Received {len(weights)} names, such as "
            f"{list(weights)[:3]}; recognized: decoder {arch}, encoder "
            f"{encoders[0] if encoders else None} (blocks in its stages: {blocks}), shape of the "
            f"head's kernel {head or None}."
        )
    return StateDictDescription(arch, encoders[0], head[0])


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    """Reads what `torch.save` wrote."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"Reading {str(path)!r} needs PyTorch, which is not installed. Either `pip install "
            f"torch`, or convert the file on a machine that has it: {CONVERSION}"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"The file {str(path)!r} holds more than weights, and reading that could run any code; "
            "or it is broken. Where its origin is trusted, save the weights alone in PyTorch: "
            "`torch.save(model.state_dict(), 'weights.pth')`, of a Lightning checkpoint "
            f"`torch.save(torch.load({path.name!r}, weights_only=False)['state_dict'], "
            "'weights.pth')`."
        ) from error
    except Exception as error:  # PyTorch raises whatever zip and its own readers do.
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(
            f"The file {str(path)!r} cannot be read: {reason}. Fetch it again."
        ) from error
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(map(torch.is_tensor, content.values())):
        raise InputError(
            f"The file {str(path)!r} holds no state dict, a mapping of names to tensors. Received: "
            f"{type(content).__name__}. Save `model.state_dict()`."
        )
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in content.items()
    }


def _is_floating(array: np.ndarray) -> bool:
    """Returns True for floating-point arrays; numpy does not count bfloat16 as one."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _without_prefix(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Removes the `model.` that a Lightning module puts in front of its network's names."""
    weights = {name.removeprefix("model."): array for name, array in state_dict.items()}
    if len(weights) < len(state_dict):
        raise InputError(
            "The state dict holds names both with and without the prefix `model.`, so two "
            "networks. Leave one of them out."
        )
    return weights


def _check_statistics(model: keras.Model, name: str, values: np.ndarray) -> None:
    """Checks that the mean or deviation that a Lightning module keeps is what `model` uses."""
    mode = model.get_layer("encoder").get_layer("preprocessing").mode
    expected = IMAGENET_STATISTICS[name]
    received = np.ravel(values).astype(np.float32)
    if mode not in ("torch", "torch_255") or not np.array_equal(received, np.float32(expected)):
        raise InputError(
            f"The state dict's {name!r} is {received}, with which its images were "
            f"standardized; the model has ImageNet's {expected} with the preprocessing 'torch' or "
            f"'torch_255' alone. Received a model with the preprocessing {mode!r}. If the images "
            "were fed otherwise, leave `mean` and `std` out and build the model with that "
            "preprocessing."
        )


def _network_targets(model: keras.Model) -> Iterator[tuple[str, _Target]]:
    """The names in smp of everything in a model, and where it goes."""
    if model.name not in ("unetpp", "deeplabv3plus"):
        raise InputError(
            "Whole networks from PyTorch load into 'unetpp' and 'deeplabv3plus'. "
            f"Received a model named {model.name!r}."
        )
    if len(model.outputs) > 1:
        raise InputError(
            "segmentation_models_pytorch has no UNet++ with deep supervision. Build the model with "
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
        yield from _targets(decoder, lambda layer: modules[layer.name])


def _targets(
    layers: Sequence[keras.layers.Layer], module_of: Callable[[keras.layers.Layer], str]
) -> Iterator[tuple[str, _Target]]:
    """The names in PyTorch of the variables of layers, and where they go."""
    for layer in layers:
        if not layer.weights:
            continue
        module = module_of(layer)
        for variable in layer.weights:
            suffix, axes = _VARIABLES[variable.name]
            yield f"{module}.{suffix}", _Target(variable, axes)


def _resnet_module(layer: keras.layers.Layer) -> str:
    """The module in torchvision of a layer of `resnet_v1_5`."""
    match = re.fullmatch(r"conv([1-5])_(?:block(\d+)_([0-3])_)?(conv|bn)", layer.name)
    if match is None or getattr(layer, "use_bias", False):
        raise InputError(
            f"Weights from PyTorch load into the encoders {list(RESNETS)}. Received a model whose "
            f"encoder has the layer {layer.path!r}, which these have not, or not with a bias."
        )
    stage, block, index, kind = match.groups()
    if block is None:
        return f"{kind}1"
    parent = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{parent}.downsample.{'0' if kind == 'conv' else '1'}"
    return f"{parent}.{kind}{index}"


def _unetpp_module(layer: keras.layers.Layer) -> str:
    """The module in smp of a layer of `UNetPlusPlus`.

    Block x_{d}_{l} of smp, d columns back and l levels up from the deepest skip, is X^{3-l,l-d+1}.
    """
    if layer.name == "head_logits":
        return "segmentation_head.0"
    match = re.fullmatch(r"(?:x_(\d)_(\d)|full_resolution)_conv([12])(_bn)?", layer.name)
    level, column, index, normalization = match.groups()
    block = "x_0_4" if level is None else f"x_{4 - int(level) - int(column)}_{3 - int(level)}"
    return f"decoder.blocks.{block}.conv{index}.{'1' if normalization else '0'}"


def _deeplabv3plus_modules(layers: Sequence[keras.layers.Layer]) -> dict[str, str]:
    """The modules in smp of the decoder's layers of `DeepLabV3Plus`, by their names."""
    modules = dict(_DEEPLABV3PLUS_MODULES)
    atrous = [layer.name for layer in layers if re.fullmatch(r"aspp_rate\d+_conv", layer.name)]
    for index, name in enumerate(atrous, start=1):
        modules[name] = f"decoder.aspp.0.convs.{index}.0"
        modules[f"{name}_bn"] = f"decoder.aspp.0.convs.{index}.1"
    return modules


def _assign(
    targets: Mapping[str, _Target],
    state_dict: Mapping[str, np.ndarray],
    what: str,
    may_be_left: Sequence[str],
) -> None:
    """Assigns every array to its variable, if all of them fit, else none."""
    # PyTorch counts the batches that made its moving statistics; Keras does not.
    given = {
        name: array
        for name, array in state_dict.items()
        if name not in may_be_left and not name.endswith(".num_batches_tracked")
    }
    faults = {
        "missing in the state dict": [
            f"{name} (for {target.variable.path})"
            for name, target in targets.items()
            if name not in given
        ],
        "left over in the state dict": [name for name in given if name not in targets],
        "misshapen": [
            f"{name}, received {np.shape(given[name])}, expected {target.torch_shape}"
            for name, target in targets.items()
            if name in given and np.shape(given[name]) != target.torch_shape
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
            f"The state dict does not fit {what}, and nothing was loaded. Of {len(targets)} "
            f"expected and {len(given)} received arrays: {lists}. Build the network that the "
            "weights were trained in: architecture, encoder, number of classes."
        )
    for name, target in targets.items():
        target.variable.assign(np.transpose(np.asarray(given[name]), target.axes))
