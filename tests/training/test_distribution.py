import keras
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError, LostWorkerError
from lcc_tf.models import build_model
from lcc_tf.models.layers import all_layers
from lcc_tf.training.cluster import Cluster
from lcc_tf.training.distribution import (
    check_accumulation,
    check_batch_size,
    check_xla,
    choose_strategy,
    naming_lost_workers,
    synchronize_batch_norm,
)


@pytest.mark.parametrize(("gpus", "mirrored"), [(0, False), (1, False), (2, True)])
def test_several_gpus_use_a_mirrored_strategy(gpus, mirrored, monkeypatch):
    # These GPUs do not exist. The test chooses a strategy, but does not use it.
    devices = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(gpus)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    assert (choose_strategy(Cluster()) == "mirrored") == mirrored


CLUSTER = Cluster(("a:1", "b:1", "c:1"), index=1)


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        # messages of TensorFlow 2.21 after the loss of worker 2 and of the chief
        (
            "Collective ops is aborted by: Error reported from /job:worker/task:0: The following "
            "tasks are unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:2\n",
            r"Worker 2 \(c:1\)",
        ),
        (
            "Collective ops is aborted by: Socket closed\nAdditional GRPC error information from "
            "remote target /job:worker/replica:0/task:0 while calling /tensorflow.WorkerService",
            r"Worker 0 \(a:1\)",
        ),
    ],
)
def test_error_names_the_lost_worker(message, lost):
    with (
        pytest.raises(LostWorkerError, match=f"^{lost} has ended.*Start all workers again"),
        naming_lost_workers(CLUSTER),
    ):
        raise tf.errors.UnavailableError(None, None, message)


def test_other_errors_do_not_name_a_worker():
    for message in ("no such file", "on device /job:worker/replica:0/task:1/device:CPU:0"):
        with pytest.raises(tf.errors.NotFoundError), naming_lost_workers(CLUSTER):
            raise tf.errors.NotFoundError(None, None, message)


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
    check_accumulation(1, two_replicas)
    check_accumulation(2, tf.distribute.get_strategy())
    for strategy in (two_replicas, tf.distribute.MirroredStrategy(["CPU:0"])):
        with pytest.raises(InputError, match=r"single device only.*MirroredStrategy"):
            check_accumulation(2, strategy)
