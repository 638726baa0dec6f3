"""Training of one network: checks, data, network, epochs."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from lcc_tf.config import TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset, reading
from lcc_tf.data.pipeline import Part
from lcc_tf.data.statistics import bands_of_data, native_size
from lcc_tf.errors import InputError
from lcc_tf.files import locked_folder
from lcc_tf.models.segmentation_models import BASELINES
from lcc_tf.runs import PACKAGES, Run, write_run
from lcc_tf.training.checkpoints import TrainingState, read_state, restore
from lcc_tf.training.cluster import Cluster, find_cluster
from lcc_tf.training.distribution import (
    check_agreement,
    check_batch_size,
    check_xla,
    choose_strategy,
    describe_devices,
    distribute,
    naming_lost_workers,
)
from lcc_tf.training.history import write_history
from lcc_tf.training.label_rules import label_rules_of
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import check_same_data, check_workdir
from lcc_tf.training.training_data import TrainingData, training_data_of


def train(
    config: TrainConfig,
    workdir: Path,
    *,
    resume: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    workers: Sequence[str] = (),
    worker_index: int | None = None,
) -> TrainingState:
    """Trains one network and writes its run folder.

    On several machines, each worker calls this function. Only the first worker writes files and
    prints.

    Args:
        config: configuration of the training.
        workdir: the run folder.
        resume: if True and `workdir` contains a run, resume this run.
        strategy: `tf.distribute` strategy. If None, the workers and the devices of the machine
            determine the strategy.
        workers: addresses `host:port` of all workers. If empty, the environment variable
            `TF_CONFIG` or SLURM can define several workers.
        worker_index: position of this process in `workers`.

    Returns:
        The state of the training after the last epoch.

    Raises:
        InputError: one of the following is wrong.

            - The run folder is not empty, or its run cannot resume.
            - Another process trains in the run folder.
            - The data set or the encoder's weights cannot be read.
            - The batch size is larger than the training split.
            - The batch size is not divisible by the number of devices.
            - The device has too little memory.
            - The loss is not a finite number.
            - The description of the workers is invalid, or the workers do not agree.
        LostWorkerError: another worker has ended or cannot be reached.
        tfds_deepglobe.errors.InputError: a file of the data set cannot be read.
    """
    cluster = Cluster() if strategy else find_cluster(workers, worker_index)
    with contextlib.ExitStack() as stack:
        if cluster.is_chief:
            stack.enter_context(locked_folder(workdir, "workdir"))
        else:
            silence = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        stack.enter_context(naming_lost_workers(cluster))
        return _train(config, workdir, resume, strategy, cluster)


def _train(
    config: TrainConfig,
    workdir: Path,
    resume: bool,
    strategy: tf.distribute.Strategy | None,
    cluster: Cluster,
) -> TrainingState:
    """Trains one network in a locked run folder, see `train`."""
    # Checks: they are the first step, because all later steps take a long time
    check_workdir(config, workdir, resume=resume)
    state, checkpoint = read_state(workdir) if resume else (TrainingState(), None)
    if state.finished or state.epoch >= config.epochs:
        ending = "stopped early" if state.finished else "ended"
        print(f"{workdir}: training {ending} after {state.epoch} epochs; nothing is left to train")
        if cluster.is_chief:
            write_history(workdir, state.history)
        return state
    strategy = strategy or choose_strategy(cluster)
    check_batch_size(config.batch_size, strategy)
    check_xla(config.xla, strategy)

    # Data set: it is prepared at its first use
    builder = prepare_dataset(**asdict(config.data))
    run = Run(
        path=workdir,
        config=config,
        classes=class_table(builder),
        fingerprint=builder.info.metadata["fingerprint"],
        native_size=native_size(builder),
        bands=bands_of_data(builder, config.scale),
    )
    if run.bands and config.arch in BASELINES:
        raise InputError(
            f"The architecture {config.arch} accepts only RGB images with 8 bits. Received: images "
            f"with the bands {', '.join(run.bands.names)}. Use another `arch`, such as unetpp."
        )
    check_same_data(run)
    rules = label_rules_of(config, builder)
    data = training_data_of(config, builder, rules, run.bands, Part(cluster.index, cluster.size))
    check_agreement(
        strategy,
        cluster,
        {
            "options": config.to_json() | {"data": None},  # paths of the data can differ
            "data set": (run.fingerprint, run.classes.names, run.bands),
            "checkpoint": vars(state),
            "packages": [version(name) for name in PACKAGES if name != "lcc_tf"],
        },
    )

    # Network
    keras.utils.set_random_seed(config.seed)
    model = build_network(
        config, rules.num_classes, pretrained=not checkpoint, bands=run.bands, strategy=strategy
    )
    print(
        f"{config.arch} with {config.encoder}: {model.count_params():,} parameters, "
        f"{config.precision}, on {describe_devices(strategy)}"
    )
    if cluster.is_chief:
        write_run(run, model.count_params())

    # Epochs
    try:
        for index, phase in enumerate(phases_of(config)):
            if state.epoch >= phase.end:
                continue
            with strategy.scope():
                compile_for(phase, model, config, rules, data.steps_per_epoch)
                if checkpoint:
                    restore(model, checkpoint, with_optimizer=index == state.phase)
                    checkpoint = None
            state.phase = index
            with reading(builder):
                recorder = RunRecorder(
                    run, phase, state, data.steps_per_epoch, is_chief=cluster.is_chief
                )
                fit(model, data, recorder)
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            "The device has too little memory. Received: "
            f"batch_size={config.batch_size}, image_size={config.image_size}, "
            f"precision={config.precision!r}. Use a smaller `batch_size` or `image_size`, or "
            "`precision='mixed_bfloat16'`."
        ) from error
    finally:
        if cluster.is_chief:
            write_history(workdir, state.history)
    return state


def fit(model: keras.Model, data: TrainingData, recorder: RunRecorder) -> None:
    """Trains a model for the epochs of the recorder's phase, or until it stops early."""
    first_epoch = recorder.state.epoch
    batches, validation = data.training_batches(first_epoch), data.validation_batches()
    if (num_outputs := len(model.outputs)) > 1:
        batches, validation = (
            dataset.map(lambda image, mask: (image, (mask,) * num_outputs))
            for dataset in (batches, validation)
        )
    batches, validation = (
        distribute(dataset, data.batch_size, model.distribute_strategy)
        for dataset in (batches, validation)
    )
    callbacks = [recorder]
    if recorder.is_chief:
        logs = recorder.run.path / "tensorboard"
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    xla = "with XLA" if model.jit_compile else "without XLA"
    print(f"Compiling the first step {xla}; this can take some minutes.")
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=first_epoch,
        epochs=recorder.phase.end,
        steps_per_epoch=data.steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
