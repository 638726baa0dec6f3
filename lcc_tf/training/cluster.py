"""Machines of a training: addresses of the processes that train together.

A worker is one process of the training, usually one per machine. The chief is worker 0. The chief
is the only worker that writes files.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from lcc_tf.errors import InputError


@dataclass(frozen=True)
class Cluster:
    """Workers of a training.

    Attributes:
        workers: addresses `host:port` of all workers, in the same order on all machines. Empty for
            a training on one machine.
        index: position of this process in `workers`.

    Example:
        >>> Cluster(("a:2222", "b:2222"), index=1).is_chief
        False
    """

    workers: tuple[str, ...] = ()
    index: int = 0

    @property
    def size(self) -> int:
        """Number of workers."""
        return max(1, len(self.workers))

    @property
    def is_chief(self) -> bool:
        """True for the worker that writes files."""
        return self.index == 0


def find_cluster(workers: Sequence[str] = (), worker_index: int | None = None) -> Cluster:
    """Finds the workers in the arguments, otherwise in `TF_CONFIG`, otherwise in SLURM.

    Args:
        workers: addresses `host:port` of all workers; empty to use the environment.
        worker_index: position of this process in `workers`; None if `workers` is empty.

    Returns:
        The cluster. A cluster of one worker is the same as a training on one machine.

    Raises:
        InputError: one of the following is wrong.

            - `workers` or `worker_index` is missing or invalid.
            - Both `workers` and `TF_CONFIG` describe several workers.
            - `TF_CONFIG` or SLURM describes an invalid address, or an unknown task.

    Example:
        >>> find_cluster(["a:2222", "b:2222"], 1)
        Cluster(workers=('a:2222', 'b:2222'), index=1)
    """
    from_tf_config = _from_tf_config(os.environ.get("TF_CONFIG", ""))
    if workers or worker_index is not None:
        cluster = _from_arguments(workers, worker_index)
        if from_tf_config.workers:
            raise InputError(
                "Only one of `workers` and the environment variable TF_CONFIG can describe the "
                f"workers. Received: workers={','.join(workers)} and TF_CONFIG with "
                f"{from_tf_config.size} workers. Remove one of them."
            )
    else:
        cluster = from_tf_config if from_tf_config.workers else _from_slurm(os.environ)
    _check_addresses(cluster.workers)
    return cluster if cluster.size > 1 else Cluster()


def _from_arguments(workers: Sequence[str], worker_index: int | None) -> Cluster:
    if not workers or worker_index is None:
        raise InputError(
            "`workers` and `worker_index` must be used together. Received: "
            f"workers={','.join(workers) or None}, worker_index={worker_index}. List the addresses "
            "of all workers, and number the workers from 0."
        )
    if not 0 <= worker_index < len(workers):
        raise InputError(
            f"`worker_index` must be in [0, {len(workers) - 1}], because `workers` lists "
            f"{len(workers)} addresses. Received: worker_index={worker_index}."
        )
    return Cluster(tuple(workers), worker_index)


def _from_tf_config(text: str) -> Cluster:
    """Returns the cluster of the environment variable `TF_CONFIG`.

    TensorFlow describes the variable at
    https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
    """
    try:
        content = json.loads(text or "{}")
        tasks = {name: [*content.get("cluster", {}).get(name, [])] for name in ("chief", "worker")}
        addresses = [str(address) for group in tasks.values() for address in group]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            "The environment variable TF_CONFIG must contain JSON with addresses of workers. "
            f"Received: {text[:200]!r}. Correct the variable, or remove it to train on one machine."
        ) from error
    if len(addresses) < 2:
        return Cluster()
    task = content.get("task")
    try:
        names = [(name, index) for name, group in tasks.items() for index in range(len(group))]
        index = names.index((task["type"], int(task["index"])))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "The environment variable TF_CONFIG must contain the task of this process: the type "
            "chief or worker, and an index into the addresses of this type. Received: "
            f"task={task!r} with {len(tasks['chief'])} chief and {len(tasks['worker'])} workers."
        ) from error
    return Cluster(tuple(addresses), index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """Returns the cluster of a SLURM job step (`srun`) with several tasks."""
    if "SLURM_PROCID" not in environment or environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return Cluster()
    try:
        # By default, the resolver also chooses the GPUs, and fails on machines without GPUs. The
        # last three arguments prevent this, because SLURM already chooses the GPUs of a task. The
        # port depends on the job, because jobs on the same machine need different ports.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=20_000 + int(environment.get("SLURM_JOB_ID", "0")) % 10_000,
            gpus_per_node=sys.maxsize,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
    except (RuntimeError, ValueError) as error:
        variables = {name: text for name, text in environment.items() if name[:11] == "SLURM_STEP_"}
        raise InputError(
            f"The workers of the SLURM job step are unknown: {error}. Received: {variables}. Use "
            "`workers` and `worker_index`."
        ) from error
    return Cluster(tuple(addresses), resolver.task_id)


def _check_addresses(workers: Sequence[str]) -> None:
    for worker in workers:
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):([1-9][0-9]{0,4})", worker)
        if not match or not 0 < int(match[2]) < 65536:
            raise InputError(
                "The address of a worker must be a host and a port, such as node1:2222. "
                f"Received: {worker!r}."
            )
    twice = sorted({worker for worker in workers if list(workers).count(worker) > 1})
    if twice:
        raise InputError(
            f"Each worker needs its own address. Received: {', '.join(twice)} several times in "
            f"{','.join(workers)}."
        )
