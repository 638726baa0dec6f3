import json

import keras
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models import build_model
from lcc_tf.models.layers import all_layers
from lcc_tf.training.distribution import (
    check_batch_size,
    check_xla,
    choose_strategy,
    synchronize_batch_norm,
)


@pytest.mark.parametrize(("gpus", "mirrored"), [(0, False), (1, False), (2, True)])
def test_several_gpus_use_a_mirrored_strategy(gpus, mirrored, monkeypatch):
    # These GPUs do not exist. The test chooses a strategy, but does not use it.
    devices = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(gpus)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    assert (choose_strategy() == "mirrored") == mirrored


def test_several_machines_raise(monkeypatch):
    for cluster in ({}, {"worker": ["a:1"]}, {"worker": ["a:1"], "ps": ["b:1"]}):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster}))
        choose_strategy()
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}))
    with pytest.raises(InputError, match="variable TF_CONFIG with 2 machines. Remove TF_CONFIG"):
        choose_strategy()
    monkeypatch.setenv("TF_CONFIG", "text")
    choose_strategy()


def test_batch_size_not_divisible_by_replicas_raises(two_replicas):
    check_batch_size(4, two_replicas)
    with pytest.raises(InputError, match="over all 2 devices.*batch_size=7. Use 8"):
        check_batch_size(7, two_replicas)
    check_batch_size(7, tf.distribute.get_strategy())


def test_batch_norm_is_synchronized_in_nested_models(two_replicas):
    def norms(model):
        return [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]

    model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None)
    synchronize_batch_norm(model, tf.distribute.get_strategy())
    assert not any(layer.synchronized for layer in norms(model))
    synchronize_batch_norm(model, two_replicas)
    assert all(layer.synchronized for layer in norms(model))
    assert len(norms(model)) == 5 + 2 * 11


def test_xla_with_several_replicas_raises(two_replicas):
    check_xla("auto", two_replicas)
    check_xla("on", tf.distribute.get_strategy())
    with pytest.raises(InputError, match="single device only.*2 replicas"):
        check_xla("on", two_replicas)
