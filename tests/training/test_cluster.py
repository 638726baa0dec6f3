import json

import pytest

from lcc_tf.errors import InputError
from lcc_tf.training.cluster import Cluster, find_cluster


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def set_tf_config(environment, task, **cluster):
    environment.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


def set_slurm(environment, **values):
    for name, value in values.items():
        environment.setenv(f"SLURM_{name}", value)


def test_one_machine_is_the_default():
    assert find_cluster() == Cluster()
    assert (find_cluster().size, find_cluster().is_chief) == (1, True)
    assert find_cluster(["a:2222"], 0) == Cluster()


def test_arguments_describe_workers():
    cluster = find_cluster(["a:1", "[::1]:2"], 1)
    assert (cluster.size, cluster.index, cluster.is_chief) == (2, 1, False)


@pytest.mark.parametrize(
    ("workers", "index", "message"),
    [
        (["a:1", "b:1"], None, "must be used together.*worker_index=None"),
        ([], 0, "must be used together.*workers=None"),
        (["a:1", "b:1"], 2, r"must be in \[0, 1\].*worker_index=2"),
        (["a:1", "b"], 0, "host and a port.*Received: 'b'"),
        (["a:1", "b:70000"], 0, "host and a port.*Received: 'b:70000'"),
        (["a:1", "a:1"], 0, "its own address.*a:1 several times"),
    ],
)
def test_invalid_arguments_raise(workers, index, message):
    with pytest.raises(InputError, match=message):
        find_cluster(workers, index)


def test_tf_config_describes_workers(environment):
    set_tf_config(environment, {"type": "worker", "index": 1}, worker=["a:1", "b:1"])
    assert find_cluster() == Cluster(("a:1", "b:1"), 1)
    set_tf_config(environment, {"type": "worker", "index": 0}, chief=["a:1"], worker=["b:1"])
    assert find_cluster() == Cluster(("a:1", "b:1"), 1)
    set_tf_config(environment, {"type": "chief", "index": 0}, chief=["a:1"], worker=["b:1"])
    assert find_cluster().is_chief


def test_tf_config_of_one_machine_is_ignored(environment):
    for cluster in ({}, {"worker": ["a:1"]}, {"worker": ["a:1"], "ps": ["b:1"]}):
        set_tf_config(environment, {"type": "worker", "index": 0}, **cluster)
        assert find_cluster() == Cluster()


@pytest.mark.parametrize(
    "text", ["text", "[1]", '{"cluster": {"worker": 3}}', '{"cluster": {"worker": [1, 2]}}']
)
def test_unreadable_tf_config_raises(text, environment):
    environment.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG must contain"):
        find_cluster()


@pytest.mark.parametrize("task", [None, {"type": "ps", "index": 0}, {"type": "worker", "index": 2}])
def test_tf_config_with_an_unknown_task_raises(environment, task):
    set_tf_config(environment, task, worker=["a:1", "b:1"], ps=["c:1"])
    with pytest.raises(InputError, match="TF_CONFIG must contain the task.*2 workers"):
        find_cluster()


def test_tf_config_and_arguments_raise(environment):
    set_tf_config(environment, {"type": "worker", "index": 1}, worker=["a:1", "b:1"])
    with pytest.raises(InputError, match="Only one of `workers` and the environment variable"):
        find_cluster(["a:1", "b:1"], 1)


def test_slurm_describes_workers(environment):
    set_slurm(environment, PROCID="2", STEP_NUM_TASKS="3", JOB_ID="70123")
    set_slurm(environment, STEP_NODELIST="node[1-2]", STEP_TASKS_PER_NODE="2,1")
    workers = ("node1:20123", "node1:20124", "node2:20123")
    assert find_cluster() == Cluster(workers, 2)
    assert find_cluster(["a:1", "b:1"], 0).workers == ("a:1", "b:1")
    set_slurm(environment, STEP_TASKS_PER_NODE="?")
    with pytest.raises(InputError, match="workers of the SLURM job step.*TASKS_PER_NODE"):
        find_cluster()


def test_slurm_job_with_one_task_uses_one_machine(environment):
    set_slurm(environment, PROCID="0")
    assert find_cluster() == Cluster()
    set_slurm(environment, STEP_NUM_TASKS="1")
    assert find_cluster() == Cluster()
