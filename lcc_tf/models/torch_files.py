"""Reads weights files of PyTorch, and never runs code that a file may contain.

To read files that `torch.save` wrote, PyTorch must be installed. Safetensors files can be read
without PyTorch.
"""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from lcc_tf.errors import InputError

TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
LISTED = 6  # maximum number of names in an error message
CONVERSION = (
    'python -c "import sys, torch, safetensors.torch as s; '
    "w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "w = next((w[k] for k in ('state_dict', 'model_state_dict', 'model') if k in w), w); "
    's.save_file({k: v.contiguous() for k, v in w.items()}, sys.argv[2])" '
    "FILE weights.safetensors"
)
# `torch.load` raises these errors for empty, truncated and damaged files and for other formats.
_DAMAGED = (EOFError, LookupError, OSError, RuntimeError, ValueError, struct.error)


def read_torch_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict from a file.

    Args:
        path: a `.safetensors` file, or a file that `torch.save` wrote (`.pth`, `.pt`, `.bin` or
            `.ckpt`). A file of `torch.save` must contain a state dict, or a checkpoint with one
            state dict. Only files of `torch.save` need PyTorch.

    Returns:
        Dictionary. Key: name of an array. Value: the array. Floating-point arrays are float32.

    Raises:
        InputError: the file does not exist, is damaged, has another format, contains more than
            weights, or needs PyTorch, which is not installed.

    Example:
        >>> import safetensors.numpy
        >>> safetensors.numpy.save_file({"fc.bias": np.zeros(7)}, "weights.safetensors")
        >>> read_torch_weights("weights.safetensors")["fc.bias"].dtype
        dtype('float32')
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The weights file does not exist. Received: {str(path)!r}.")
    if path.suffix not in TORCH_SUFFIXES:
        raise InputError(
            f"The name of a PyTorch weights file must end in one of {TORCH_SUFFIXES}. "
            f"Received: {str(path)!r}. Use a Keras file (`.h5`) only with the encoder from which "
            "the file was saved."
        )
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.numpy.load_file(path)
        except AttributeError as error:
            # safetensors raises this error for types that numpy does not have, such as float8. The
            # values are not converted, because quantized values need scale factors.
            raise InputError(
                f"The arrays in {str(path)!r} must have at least 16 bits per value. Received: "
                f"arrays with fewer bits ({error}). Save the weights as float32 or float16."
            ) from error
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(
                f"The file {str(path)!r} is not a complete safetensors file: {error}. "
                "Download it again."
            ) from error
    else:
        weights = _read_pickled(path)
    return {
        name: array.astype(np.float32) if _is_floating(array) else array
        for name, array in weights.items()
    }


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    """Reads a file written by `torch.save`."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"Reading {str(path)!r} needs PyTorch, which is not installed. Either run `pip install "
            f"torch`, or convert the file on a machine with PyTorch: {CONVERSION}"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"The file {str(path)!r} is damaged, or contains more than weights. Such a file could "
            "run harmful code when it is read. If you trust the origin of the file, save only the "
            "weights in PyTorch: "
            "`torch.save(model.state_dict(), 'weights.pth')`. For a Lightning checkpoint: "
            f"`torch.save(torch.load({path.name!r}, weights_only=False)['state_dict'], "
            "'weights.pth')`."
        ) from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(
            f"The file {str(path)!r} cannot be read: {reason}. Download it again."
        ) from error

    def is_state_dict(value: object) -> bool:
        return isinstance(value, Mapping) and all(map(torch.is_tensor, value.values()))

    if isinstance(content, Mapping) and not is_state_dict(content):
        # A checkpoint contains the state dict and other values, such as the epoch. Usual names of
        # the state dict are `state_dict`, `model` and `model_state_dict`.
        found = {name: value for name, value in content.items() if value and is_state_dict(value)}
        if len(found) > 1 and "state_dict" not in found:
            raise InputError(
                f"The file {str(path)!r} must contain one state dict. Received: {list(found)}. "
                "Save only one of these state dicts."
            )
        content = found.get("state_dict") or next(iter(found.values()), content)
    if not is_state_dict(content):
        keys = f" with the keys {list(content)[:LISTED]}" if isinstance(content, Mapping) else ""
        raise InputError(
            f"The file {str(path)!r} does not contain a state dict, a mapping of names to tensors. "
            f"Received: {type(content).__name__}{keys}. Save `model.state_dict()`."
        )
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in content.items()
    }


def _is_floating(array: np.ndarray) -> bool:
    """Returns True for floating-point arrays, including bfloat16 (its numpy kind is not "f")."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
