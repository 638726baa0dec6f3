"""Tests of `precision="auto"`, with simulated processors and GPUs."""

import dataclasses
import json

import pytest
import tensorflow as tf

from lcc_tf.models import ARCHITECTURES
from lcc_tf.training import precision
from lcc_tf.training.precision import fastest_precision
from lcc_tf.training.train import train
from tests.untrained_runs import small_unet


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Returns a function that sets the instruction sets of the processor."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "PROCESSORS", file)
    return lambda flags: file.write_text(f"model name\t: avx512_bf16\nflags\t\t: fpu {flags}\n")


@pytest.mark.parametrize(
    ("flags", "encoder", "expected"),
    [
        ("avx512f avx512_bf16", "resnet101", "mixed_bfloat16"),
        ("amx_bf16", "resnet18_v1.5", "mixed_bfloat16"),
        ("avx512f", "resnet101", "float32"),
        ("avx512_bf16", "mobilenetv2", "float32"),
    ],
)
def test_precision_of_a_processor(processor, flags, encoder, expected):
    processor(flags)
    assert fastest_precision(encoder) == expected


def test_unknown_processor_uses_float32(processor):
    assert fastest_precision("resnet101") == "float32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0), (9, 0)], "mixed_bfloat16"), ([(9, 0), (7, 5)], "float32")],
)
def test_precision_of_gpus(monkeypatch, processor, capabilities, expected):
    processor("avx512_bf16" if expected == "float32" else "")
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: range(len(capabilities)))
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": capabilities[gpu]},
    )
    assert fastest_precision("mobilenetv2") == expected


def test_chosen_precision_is_stored_and_resumed(
    processor, tiny_config, eagerly, monkeypatch, tmp_path
):
    monkeypatch.setitem(ARCHITECTURES, "unetpp", small_unet)
    config = dataclasses.replace(
        tiny_config, arch="unetpp", encoder="resnet18_v1.5", precision="auto", epochs=1
    )
    processor("avx512_bf16")
    train(config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert stored["precision"] == "mixed_bfloat16"
    # The run keeps its precision on a machine that would choose another precision.
    processor("")
    train(dataclasses.replace(config, epochs=2), tmp_path / "run", resume=True)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (stored["precision"], stored["epochs"]) == ("mixed_bfloat16", 2)
