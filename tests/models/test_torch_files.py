"""Reading of PyTorch weights files. The tests do not need PyTorch."""

import json
import pickle
import struct
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from lcc_tf.errors import InputError
from lcc_tf.models.torch_files import read_torch_weights


def test_safetensors_of_any_precision_become_float32(tmp_path):
    values = np.array([1.5, -2.0, 0.25])
    file = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(
        {
            "half": values.astype(np.float16),
            "double": values,
            "brain": values.astype(ml_dtypes.bfloat16),
            "count": np.array(3),
        },
        file,
    )
    weights = read_torch_weights(file)
    for name in ("half", "double", "brain"):
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], values)
    assert weights["count"] == 3


def test_invalid_files_raise(tmp_path):
    with pytest.raises(InputError, match="does not exist. Received: .*absent.pth"):
        read_torch_weights(tmp_path / "absent.pth")
    file = tmp_path / "weights.h5"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="'.safetensors', '.pth'.*weights.h5.*Use a Keras file"):
        read_torch_weights(file)
    file = tmp_path / "truncated.safetensors"
    safetensors.numpy.save_file({"a": np.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        read_torch_weights(file)


def test_pickled_weights_without_torch_raise(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # Python treats PyTorch as not installed
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="model.pth' needs PyTorch.*safetensors.torch"):
        read_torch_weights(file)


class Tensor:
    """Replacement for a PyTorch tensor, with the methods that `read_torch_weights` uses."""

    def __init__(self, array):
        self.array = array

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def detach(self):
        return self

    def numpy(self):
        return self.array


@pytest.fixture
def torch_that_loads(monkeypatch):
    """Function that replaces PyTorch by a module whose `load` returns or raises `content`."""

    def install(content):
        def load(path, *, map_location, weights_only):
            assert map_location == "cpu"
            assert weights_only is True
            if isinstance(content, Exception):
                raise content
            return content

        torch = SimpleNamespace(load=load, is_tensor=lambda value: isinstance(value, Tensor))
        monkeypatch.setitem(sys.modules, "torch", torch)

    return install


def test_pickled_weights(torch_that_loads, tmp_path):
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"")
    state_dict = {"weight": Tensor(np.array([1.5], np.float16)), "count": Tensor(np.array(3))}
    for content in (
        state_dict,
        {"state_dict": state_dict, "epoch": 4},
        {"model_state_dict": state_dict, "optimizer": {"state": {}, "param_groups": []}},
        {"model": state_dict, "epoch": 4, "scheduler": {}},
        {"state_dict": state_dict, "ema": state_dict},
    ):
        torch_that_loads(content)
        weights = read_torch_weights(file)
        assert list(weights) == ["weight", "count"]
        assert weights["weight"].dtype == np.float32
        assert weights["count"] == 3


def test_pickles_without_weights_raise(torch_that_loads, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    torch_that_loads(pickle.UnpicklingError("Weights only load failed.\n Unsupported global"))
    with pytest.raises(InputError, match="contains more than weights.*model.state_dict"):
        read_torch_weights(file)
    for content in ([1, 2], {"state_dict": {"a": 1}}):
        torch_that_loads(content)
        with pytest.raises(
            InputError, match="does not contain a state dict.*Received: (list|dict)"
        ):
            read_torch_weights(file)


def test_two_state_dicts_in_one_file_raise(torch_that_loads, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    weights = {"weight": Tensor(np.ones(2))}
    torch_that_loads({"model": weights, "ema": weights, "epoch": 1})
    with pytest.raises(InputError, match=r"one state dict. Received: \['model', 'ema'\]"):
        read_torch_weights(file)
    torch_that_loads({"epoch": 1, "args": {"lr": 0.1}})
    with pytest.raises(InputError, match=r"Received: dict with the keys \['epoch', 'args'\]"):
        read_torch_weights(file)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_quantized_safetensors_raise(dtype, tmp_path):
    header = json.dumps({"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match="at least 16 bits per value.*float8.*Save the weights"):
        read_torch_weights(file)


# Errors that `torch.load` of PyTorch 2.13 raised for damaged files and for other formats
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("failed finding\n central directory"), "failed finding central directory"),
        (EOFError(), "EOFError"),  # an empty file
        (OSError("Invalid argument"), "Invalid argument"),  # a truncated file
        (UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range"), "'ascii' codec"),
        (KeyError(101), "101"),  # a text file
        (IndexError("pop from empty list"), "pop from empty list"),
        (struct.error("unpack requires a buffer of 4 bytes"), "unpack requires"),
    ],
)
def test_damaged_pickle_raises(error, reason, torch_that_loads, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    torch_that_loads(error)
    with pytest.raises(InputError, match=f"cannot be read: {reason}.*Download it again"):
        read_torch_weights(file)


def test_programming_error_is_not_converted(torch_that_loads, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    torch_that_loads(TypeError("a bug"))
    with pytest.raises(TypeError, match="^a bug$"):
        read_torch_weights(file)
