"""Weights from PyTorch: equal logits, strict errors. Neither PyTorch nor smp is needed."""

import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from lcc_tf.errors import InputError
from lcc_tf.models import UNetPlusPlus
from lcc_tf.models.resnet_v1_5 import RESNETS, resnet_v1_5
from lcc_tf.models.torch_weights import (
    describe,
    load_torch_encoder,
    load_torch_state_dict,
    read_torch_weights,
)
from tests.models.smp_networks import (
    EXPECTED_SIZE,
    EXPECTED_STEP,
    build_keras,
    seeded_image,
    seeded_weights,
)

DATA = Path(__file__).parent / "data"
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)


def stored(arch, output_stride):
    """Weights by the names and shapes of smp, drawn anew, and the logits that it made of them."""
    with np.load(DATA / f"smp_{arch}_{output_stride or 32}.npz") as file:
        return seeded_weights(json.loads(str(file["shapes"]))), file["logits"]


@pytest.fixture(scope="module")
def smp_weights():
    """The state dict of smp's UnetPlusPlus with resnet18 and 7 classes."""
    return stored("unetpp", None)[0]


@pytest.fixture(scope="module")
def model():
    """Our UNet++ with resnet18 and 7 classes."""
    return build_keras("unetpp", "resnet18", None)


@pytest.mark.parametrize(
    ("arch", "output_stride"), [("unetpp", None), ("deeplabv3plus", 16), ("deeplabv3plus", 8)]
)
def test_logits_are_those_of_smp(arch, output_stride):
    weights, expected = stored(arch, output_stride)
    model = build_keras(arch, "resnet18", output_stride)
    load_torch_state_dict(model, weights)
    logits = model(seeded_image(*EXPECTED_SIZE)).numpy()[0, ::EXPECTED_STEP, ::EXPECTED_STEP]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_lightning_module_with_statistics(model, smp_weights):
    lightning = {f"model.{name}": array + 1 for name, array in smp_weights.items()}
    lightning["model.encoder.bn1.num_batches_tracked"] = np.array(7)
    load_torch_state_dict(model, lightning | {"mean": MEAN, "std": STD})
    bias = smp_weights["segmentation_head.0.bias"] + 1
    np.testing.assert_array_equal(model.get_layer("head_logits").bias, bias)


def test_other_statistics(model, smp_weights):
    with pytest.raises(InputError, match=r"'std' is \[1. 1. 1.\].*'torch'"):
        load_torch_state_dict(model, smp_weights | {"mean": MEAN, "std": np.ones(3)})
    unit = UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None, preprocessing="unit")
    with pytest.raises(InputError, match="Received a model with the preprocessing 'unit'"):
        load_torch_state_dict(unit, smp_weights | {"mean": MEAN})


def test_error_lists_everything_and_loads_nothing(model, smp_weights):
    weights = dict(smp_weights)
    del weights["decoder.blocks.x_0_0.conv1.0.weight"]
    weights["loss.weight"] = np.ones(7)
    weights["segmentation_head.0.weight"] = np.ones((3, 16, 3, 3), np.float32)
    before = model.get_weights()
    with pytest.raises(InputError) as caught:
        load_torch_state_dict(model, weights)
    message = str(caught.value)
    assert (
        "1 missing in the state dict: decoder.blocks.x_0_0.conv1.0.weight "
        "(for x_3_1_conv1/kernel)" in message
    )
    assert "1 left over in the state dict: loss.weight" in message
    assert (
        "1 misshapen: segmentation_head.0.weight, received (3, 16, 3, 3), expected (7, 16, 3, 3)"
        in message
    )
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_error_is_short_when_nothing_fits(model):
    with pytest.raises(
        InputError, match=r"missing.*and \d\d\d more; 1 left over.*: a\. "
    ) as caught:
        load_torch_state_dict(model, {"a": np.ones(1)})
    assert len(str(caught.value)) < 1200


def test_two_networks_in_one_state_dict(model, smp_weights):
    twice = smp_weights | {f"model.{name}": array for name, array in smp_weights.items()}
    with pytest.raises(InputError, match="with and without the prefix `model.`"):
        load_torch_state_dict(model, twice)


def test_models_that_take_no_weights_from_smp(smp_weights):
    with pytest.raises(InputError, match="resnet18_v1.5.*'stage1_conv'"):
        load_torch_state_dict(UNetPlusPlus(7, encoder="tiny", encoder_weights=None), smp_weights)
    supervised = UNetPlusPlus(7, encoder="tiny", encoder_weights=None, deep_supervision=True)
    with pytest.raises(InputError, match="deep_supervision=False"):
        load_torch_state_dict(supervised, smp_weights)
    other = keras.Sequential([keras.Input((1,))], name="other")
    with pytest.raises(InputError, match="'unetpp' and 'deeplabv3plus'.*named 'other'"):
        load_torch_state_dict(other, smp_weights)


def test_keras_form_of_resnet_is_told_by_its_biases():
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(64, 7, name="conv1_conv")]
    )
    with pytest.raises(InputError, match="conv1_conv'.*not with a bias"):
        load_torch_encoder(network, {})


def test_resnets_of_timm_with_another_stem_are_refused(smp_weights):
    prefix = "encoder."
    weights = {
        name.removeprefix(prefix): array
        for name, array in smp_weights.items()
        if name.startswith(prefix)
    }
    network = resnet_v1_5(RESNETS["resnet18_v1.5"], keras.Input((32, 32, 3)))
    load_torch_encoder(network, weights | {"fc.bias": np.ones(1000)})
    # resnet18d: three convolutions in the stem
    stem = {"conv1.0.weight": np.ones((32, 3, 3, 3), np.float32)}
    del weights["conv1.weight"]
    with pytest.raises(InputError, match="missing.*conv1.weight.*left over.*conv1.0.weight"):
        load_torch_encoder(network, weights | stem)


def test_describe(smp_weights):
    assert describe(smp_weights) == ("unetpp", "resnet18_v1.5", 7)
    lightning = {f"model.{name}": array for name, array in smp_weights.items()}
    assert describe(lightning | {"mean": MEAN, "std": STD}) == ("unetpp", "resnet18_v1.5", 7)
    assert describe(stored("deeplabv3plus", 8)[0]) == ("deeplabv3plus", "resnet18_v1.5", 7)


def test_describe_tells_depths_and_variants(smp_weights):
    decoder = {name: array for name, array in smp_weights.items() if "encoder." not in name}
    blocks = {
        f"encoder.layer{stage}.{block}.conv1.weight": np.ones((1, 1, 1, 1))
        for stage, count in enumerate((3, 4, 23, 3), start=1)
        for block in range(count)
    }
    bottleneck = {
        "encoder.layer1.0.conv2.weight": np.ones((64, 64, 3, 3)),
        "encoder.layer1.0.conv3.weight": np.ones((256, 64, 1, 1)),
    }
    assert describe(decoder | blocks | bottleneck).encoder == "resnet101_v1.5"
    # resnext101_32x4d: groups
    bottleneck["encoder.layer1.0.conv2.weight"] = np.ones((128, 4, 3, 3))
    with pytest.raises(InputError, match=r"decoder unetpp, encoder None .*\(3, 4, 23, 3\)"):
        describe(decoder | blocks | bottleneck)
    with pytest.raises(InputError, match="Received 1 names, such as .'a'.*decoder None"):
        describe({"a": np.ones(1)})


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


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(InputError, match="no file of weights.*absent.pth"):
        read_torch_weights(tmp_path / "absent.pth")
    file = tmp_path / "weights.h5"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="'.safetensors', '.pth'.*weights.h5.*of Keras"):
        read_torch_weights(file)
    file = tmp_path / "cut.safetensors"
    safetensors.numpy.save_file({"a": np.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_torch_weights(file)


def test_pickled_weights_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="model.pth' needs PyTorch.*safetensors.torch"):
        read_torch_weights(file)


class Tensor:
    """What is used of PyTorch's tensors."""

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
    """Puts a stand-in for PyTorch in place, whose `load` gives or raises what it is told to."""

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
    for content in (state_dict, {"state_dict": state_dict, "epoch": 4}):
        torch_that_loads(content)
        weights = read_torch_weights(file)
        assert list(weights) == ["weight", "count"]
        assert weights["weight"].dtype == np.float32
        assert weights["count"] == 3


def test_pickles_of_something_else(torch_that_loads, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(b"")
    torch_that_loads(pickle.UnpicklingError("Weights only load failed.\n Unsupported global"))
    with pytest.raises(InputError, match="holds more than weights.*model.state_dict"):
        read_torch_weights(file)
    torch_that_loads(RuntimeError("failed finding\n central directory"))
    with pytest.raises(InputError, match="cannot be read: failed finding central directory. Fetch"):
        read_torch_weights(file)
    for content in ([1, 2], {"state_dict": {"a": 1}}):
        torch_that_loads(content)
        with pytest.raises(InputError, match="holds no state dict.*Received: (list|dict)"):
            read_torch_weights(file)
