"""Loading of PyTorch weights. Logits must equal the logits of segmentation_models_pytorch (smp).

The tests need neither PyTorch nor smp, because the logits of smp are stored in files.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.models import UNetPlusPlus
from lcc_tf.models.resnet_v1_5 import RESNETS, resnet_v1_5
from lcc_tf.models.torch_weights import (
    describe,
    load_torch_encoder,
    load_torch_state_dict,
    network_arrays,
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
    """Returns a state dict of smp with random values, and the logits of smp for these values."""
    with np.load(DATA / f"smp_{arch}_{output_stride or 32}.npz") as file:
        return seeded_weights(json.loads(str(file["shapes"]))), file["logits"]


@pytest.fixture(scope="module")
def smp_weights():
    """A state dict of `UnetPlusPlus` in smp with resnet18 and 7 classes."""
    return stored("unetpp", None)[0]


@pytest.fixture(scope="module")
def model():
    """A Keras UNet++ with resnet18 and 7 classes."""
    return build_keras("unetpp", "resnet18", None)


@pytest.mark.parametrize(
    ("arch", "output_stride"), [("unetpp", None), ("deeplabv3plus", 16), ("deeplabv3plus", 8)]
)
def test_logits_equal_smp(arch, output_stride):
    weights, expected = stored(arch, output_stride)
    model = build_keras(arch, "resnet18", output_stride)
    load_torch_state_dict(model, weights)
    logits = model(seeded_image(*EXPECTED_SIZE)).numpy()[0, ::EXPECTED_STEP, ::EXPECTED_STEP]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_state_dict_of_a_lightning_module_loads(model, smp_weights):
    lightning = {f"model.{name}": array + 1 for name, array in smp_weights.items()}
    lightning["model.encoder.bn1.num_batches_tracked"] = np.array(7)
    load_torch_state_dict(model, lightning | {"mean": MEAN, "std": STD})
    bias = smp_weights["segmentation_head.0.bias"] + 1
    np.testing.assert_array_equal(model.get_layer("head_logits").bias, bias)


def test_statistics_that_differ_from_imagenet_raise(model, smp_weights):
    with pytest.raises(InputError, match=r"'torch' or.*std=\[1. 1. 1.\], preproc.*'torch'"):
        load_torch_state_dict(model, smp_weights | {"mean": MEAN, "std": np.ones(3)})
    unit = UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None, preprocessing="unit")
    with pytest.raises(InputError, match="Received: mean=.*preprocessing='unit'"):
        load_torch_state_dict(unit, smp_weights | {"mean": MEAN})


def test_error_lists_all_mismatches_and_nothing_is_loaded(model, smp_weights):
    weights = dict(smp_weights)
    del weights["decoder.blocks.x_0_0.conv1.0.weight"]
    weights["decoder.extra.weight"] = np.ones(7)
    weights["segmentation_head.0.weight"] = np.ones((3, 16, 3, 3), np.float32)
    before = model.get_weights()
    with pytest.raises(InputError) as caught:
        load_torch_state_dict(model, weights)
    message = str(caught.value)
    assert (
        "1 missing in the state dict: decoder.blocks.x_0_0.conv1.0.weight "
        "(for x_3_1_conv1/kernel)" in message
    )
    assert "1 unexpected in the state dict: decoder.extra.weight" in message
    assert (
        "1 of another shape: segmentation_head.0.weight, received (3, 16, 3, 3), "
        "expected (7, 16, 3, 3)" in message
    )
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "complex64"])
def test_arrays_of_other_dtypes_than_float_raise(model, smp_weights, dtype):
    name = "segmentation_head.0.weight"
    weights = smp_weights | {name: smp_weights[name].astype(dtype)}
    message = f"1 not of a floating point type: {name}, received {dtype}"
    with pytest.raises(InputError, match=message):
        load_torch_state_dict(model, weights)


def test_error_is_short_if_no_name_matches(model):
    with pytest.raises(
        InputError, match=r"missing.*and \d\d\d more; 1 unexpected.*: a\. "
    ) as caught:
        load_torch_state_dict(model, {"a": np.ones(1)})
    assert len(str(caught.value)) < 1200


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model._orig_mod.", "module.net.", "net."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_wrappers_are_removed(smp_weights, prefix):
    wrapped = {prefix + name: array for name, array in smp_weights.items()}
    loss = {"criterion.weight": np.ones(7), "loss.0.weight": np.ones(7)}
    weights, others = network_arrays(wrapped | loss | {"mean": MEAN})
    assert weights.keys() == smp_weights.keys() | {"mean"}
    assert others == ("criterion.weight", "loss.0.weight")


def test_wrappers_of_parts_of_the_network_are_removed(smp_weights):
    wrapped = {
        name.replace("encoder.", "encoder._orig_mod.").replace("decoder.", "decoder.module."): array
        for name, array in smp_weights.items()
    }
    assert network_arrays(wrapped) == (smp_weights, ())


@pytest.mark.parametrize("prefix", ["model.", "ema_model.", "module."])
def test_two_networks_in_one_state_dict_raise(model, smp_weights, prefix):
    twice = smp_weights | {prefix + name: array for name, array in smp_weights.items()}
    with pytest.raises(InputError, match="must contain one network. Received: networks with"):
        load_torch_state_dict(model, twice)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["encoder.bn1.running_var", "segmentation_head.0.bias"])
def test_values_that_are_not_finite_raise(model, smp_weights, name, value):
    weights = smp_weights | {name: np.full_like(smp_weights[name], value)}
    before = model.get_layer("head_logits").bias.numpy()
    with pytest.raises(InputError, match=f"state dict must contain finite.*infinite.* in {name}"):
        load_torch_state_dict(model, weights)
    np.testing.assert_array_equal(model.get_layer("head_logits").bias, before)


def test_models_that_do_not_exist_in_smp_raise(smp_weights):
    with pytest.raises(InputError, match="resnet18_v1.5.*'stage1_conv'"):
        load_torch_state_dict(UNetPlusPlus(7, encoder="tiny", encoder_weights=None), smp_weights)
    supervised = UNetPlusPlus(7, encoder="tiny", encoder_weights=None, deep_supervision=True)
    with pytest.raises(InputError, match="deep_supervision=False"):
        load_torch_state_dict(supervised, smp_weights)
    other = keras.Sequential([keras.Input((1,))], name="other")
    with pytest.raises(InputError, match="'unetpp' and 'deeplabv3plus' only.*named 'other'"):
        load_torch_state_dict(other, smp_weights)


def test_resnet_of_keras_applications_raises():
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(64, 7, name="conv1_conv")]
    )
    with pytest.raises(InputError, match="conv1_conv'.*or their layer has no bias"):
        load_torch_encoder(network, {})


def test_timm_resnet_with_another_stem_raises(smp_weights):
    prefix = "encoder."
    weights = {
        name.removeprefix(prefix): array
        for name, array in smp_weights.items()
        if name.startswith(prefix)
    }
    network = resnet_v1_5(RESNETS["resnet18_v1.5"], keras.Input((32, 32, 3)))
    load_torch_encoder(network, weights | {"fc.bias": np.ones(1000)})
    # The stem of resnet18d has three convolutions.
    stem = {"conv1.0.weight": np.ones((32, 3, 3, 3), np.float32)}
    del weights["conv1.weight"]
    with pytest.raises(InputError, match="missing.*conv1.weight.*unexpected.*conv1.0.weight"):
        load_torch_encoder(network, weights | stem)


def test_describe_identifies_the_network(smp_weights):
    assert describe(smp_weights) == ("unetpp", "resnet18_v1.5", 7)
    lightning = {f"model.{name}": array for name, array in smp_weights.items()}
    assert describe(lightning | {"mean": MEAN, "std": STD}) == ("unetpp", "resnet18_v1.5", 7)
    assert describe(stored("deeplabv3plus", 8)[0]) == ("deeplabv3plus", "resnet18_v1.5", 7)


def test_describe_distinguishes_depths_and_variants(smp_weights):
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
    # resnext101_32x4d has grouped convolutions.
    bottleneck["encoder.layer1.0.conv2.weight"] = np.ones((128, 4, 3, 3))
    with pytest.raises(InputError, match=r"decoder unetpp, encoder None .*\(3, 4, 23, 3\)"):
        describe(decoder | blocks | bottleneck)
    with pytest.raises(InputError, match="Received 1 names, such as .'a'.*decoder None"):
        describe({"a": np.ones(1)})


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_layer_that_does_not_exist_in_smp_raises(arch, model, smp_weights):
    image = keras.Input((32, 32, 3))
    encoder = model.get_layer("encoder")
    head = keras.layers.Conv2D(7, 1, name="another_head")(encoder(image)[-1])
    with pytest.raises(InputError, match="has no layer for 'another_head'"):
        load_torch_state_dict(keras.Model(image, head, name=arch), smp_weights)
