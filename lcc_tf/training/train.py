"""Training of one network: checks, data, network, epochs."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.config import TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset, reading
from lcc_tf.data.pipeline import Part, split_size
from lcc_tf.data.statistics import bands_of_data, native_size
from lcc_tf.data.training_images import write_training_images
from lcc_tf.errors import InputError
from lcc_tf.files import locked_folder
from lcc_tf.models.segmentation_models import BASELINES
from lcc_tf.runs import CONFIG, Run, package_versions, read_run, write_run
from lcc_tf.training.batch_size import largest_batch_size, smaller_batch_size
from lcc_tf.training.checkpoints import (
    CheckpointWriter,
    TrainingState,
    read_state,
    restore,
)
from lcc_tf.training.cluster import Cluster, find_cluster
from lcc_tf.training.distribution import (
    check_accumulation,
    check_agreement,
    check_batch_size,
    check_xla,
    choose_strategy,
    describe_devices,
    distribute,
    is_multi_worker,
    naming_lost_workers,
)
from lcc_tf.training.event_files import EventFiles
from lcc_tf.training.history import write_history
from lcc_tf.training.interruption import delayed_signals
from lcc_tf.training.label_rules import label_rules_of
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.optimizer import averaging_optimizer
from lcc_tf.training.phases import phases_of
from lcc_tf.training.precision import fastest_precision
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import (
    check_same_data,
    check_workdir,
    not_empty,
    with_chosen_values,
)
from lcc_tf.training.training_data import training_data_of


def train(
    config: TrainConfig,
    workdir: Path,
    *,
    resume: bool | None = None,
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
        resume: if True and `workdir` contains a run, resume this run. If None, resume this run
            only if it has the same configuration and is not finished. If False, never resume.
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
            - The description of the workers is invalid, or the workers do not agree.
        DivergenceError: the loss or its gradient is not a finite number.
        LostWorkerError: another worker has ended or cannot be reached.
        tfds_deepglobe.errors.InputError: a file of the data set cannot be read.
    """
    if strategy and (workers or is_multi_worker(strategy)):
        raise InputError(
            "`strategy` must be a strategy for one machine. Received: "
            f"{type(strategy).__name__}, workers={workers}. For several machines, use `workers` "
            "and `worker_index` without `strategy`."
        )
    cluster = Cluster() if strategy else find_cluster(workers, worker_index)
    with contextlib.ExitStack() as stack:
        if cluster.is_chief:
            stack.enter_context(locked_folder(workdir, "workdir"))
        else:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        stack.enter_context(naming_lost_workers(cluster))
        return _train(config, workdir, resume, strategy, cluster)


def _train(
    config: TrainConfig,
    workdir: Path,
    resume: bool | None,
    strategy: tf.distribute.Strategy | None,
    cluster: Cluster,
) -> TrainingState:
    """Trains one network in a locked run folder, see `train`."""
    # Checks: they are the first step, because all later steps take a long time
    check_workdir(config, workdir, resume=resume)
    # This line waits for all workers. Before all workers have started again, the chief could still
    # write a checkpoint of the interrupted training. Therefore read the checkpoint afterwards.
    strategy = strategy or choose_strategy(cluster)
    if (workdir / CONFIG).exists():
        config = with_chosen_values(config, read_run(workdir).config)
    if config.precision == "auto":
        if cluster.size > 1:
            raise InputError(
                "`precision='auto'` chooses a precision for one machine. Received: "
                f"{cluster.size} workers, which could choose different precisions. Use "
                "`precision='mixed_bfloat16'` or `precision='float32'`."
            )
        config = replace(config, precision=fastest_precision(config.encoder))
    check_batch_size(config.batch_size, strategy)
    check_xla(config.xla, strategy)
    check_accumulation(config.accumulate, strategy)
    state, checkpoint = read_state(workdir, is_chief=cluster.is_chief)
    if state.finished or state.epoch >= config.epochs:
        if not resume:
            raise not_empty(workdir)
        ending = "stopped early" if state.finished else "ended"
        print(f"{workdir}: training {ending} after {state.epoch} epochs; nothing is left to train")
        # A training that was killed in its last moments lacks some of these files.
        if cluster.is_chief:
            EventFiles(workdir).write(state.history)
            write_history(workdir, state.history)
        return state

    # Data set: it is prepared at its first use
    builder = prepare_dataset(**asdict(config.data))
    bands = bands_of_data(builder, config.scale)
    if bands and config.arch in BASELINES:
        raise InputError(
            f"The architecture {config.arch} accepts only RGB images with 8 bits. Received: images "
            f"with the bands {', '.join(bands.names)}. Use another `arch`, such as unetpp."
        )
    rules = label_rules_of(config, builder)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.batch_size is None:
        max_images = split_size(builder, "train")
        if config.crops_per_image or config.framing == "whole":
            # An epoch must have at least `accumulate` steps. Otherwise the weights would never
            # change. In all other cases, the number of crops is chosen for about 50 steps.
            num_images = max_images * (config.crops_per_image or 1)
            max_images = max(num_images // config.accumulate, 1)
        batch_size = largest_batch_size(config, rules, strategy, bands, max_images)
        config = replace(config, batch_size=batch_size)
    run = Run(
        path=workdir,
        config=config,
        classes=class_table(builder),
        fingerprint=builder.info.metadata["fingerprint"],
        native_size=native_size(builder),
        bands=bands,
    )
    check_same_data(run)
    data = training_data_of(config, builder, rules, bands, Part(cluster.index, cluster.size))
    if config.accumulate > data.steps_per_epoch:
        raise InputError(
            "`accumulate` must not be larger than the number of steps per epoch. Received: "
            f"accumulate={config.accumulate}, batch_size={config.batch_size}, steps per "
            f"epoch={data.steps_per_epoch}. Use an `accumulate` of at most {data.steps_per_epoch} "
            "or a smaller `batch_size`"
            + (", or a larger `crops_per_image`." if config.framing == "crops" else ".")
        )
    check_agreement(
        strategy,
        cluster,
        {
            # The paths of the data can differ.
            **{f"`{name}`": value for name, value in config.to_json().items() if name != "data"},
            "data set": (run.fingerprint, run.classes.names, run.bands),
            "checkpoint": vars(state),
            "packages": package_versions(),
        },
    )

    # Network
    keras.utils.set_random_seed(config.seed)
    model = build_network(
        config, rules.num_classes, pretrained=not checkpoint, bands=bands, strategy=strategy
    )
    print(
        f"{config.arch} with {config.encoder}: {model.count_params():,} parameters, "
        f"{config.precision}, on {describe_devices(strategy)}"
    )
    if checkpoint:
        print(f"resuming the run in {workdir}, {state.position}")
    if cluster.is_chief:
        write_run(run, model.count_params())
        write_training_images(workdir, builder)

    # Epochs
    sums: dict[str, np.ndarray] = {}
    writer = CheckpointWriter(workdir, resumed=checkpoint, is_chief=cluster.is_chief)
    try:
        with writer as checkpoints:
            for index, phase in enumerate(phases_of(config)):
                if state.epoch >= phase.end:
                    continue
                with strategy.scope():
                    compile_for(phase, model, config, rules, data.steps_per_epoch)
                    if checkpoint:
                        sums = restore(model, checkpoint, same_phase=index == state.phase)
                        checkpoint = None
                state.phase = index
                with reading(builder), delayed_signals() as delay:
                    # On several machines, all workers must stop after the same step.
                    delay.is_active = cluster.size > 1
                    recorder = RunRecorder(
                        *(run, phase, state, data, checkpoints, delay, sums),
                        is_chief=cluster.is_chief,
                    )
                    fit(model, recorder)
                sums = {}
    except tf.errors.ResourceExhaustedError as error:
        smaller = None
        if cluster.size == 1:
            print("The device has too little memory. Measuring smaller batch sizes:")
            smaller = smaller_batch_size(model, config.batch_size, config.image_size)
        measured = f"`batch_size={smaller}`, which was measured to fit, in another `workdir`, "
        remedy = measured if smaller else ""
        raise InputError(
            "The device has too little memory. Received: "
            f"batch_size={config.batch_size}, image_size={config.image_size}, "
            f"precision={config.precision!r}. Use {remedy}a smaller `image_size`, or "
            "`precision='mixed_bfloat16'`."
        ) from error
    finally:
        if cluster.is_chief and writer.has_checkpoint():
            write_history(workdir, state.history)
    return state


def fit(model: keras.Model, recorder: RunRecorder) -> None:
    """Trains a model for the epochs of the recorder's phase, or until early stopping.

    If the training resumes in the middle of an epoch, this epoch is finished first. At the end, the
    weights of the model are the averaged weights.
    """
    state, data = recorder.state, recorder.data

    def prepared(batches: tf.data.Dataset) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        if (num_outputs := len(model.outputs)) > 1:
            batches = batches.map(lambda image, mask: (image, (mask,) * num_outputs))
        return distribute(batches, data.batch_size, model.distribute_strategy)

    validation = data.validation_batches()

    def fit_epochs(end: int, steps: int) -> None:
        model.fit(
            prepared(data.training_batches(state.epoch, state.step)),
            validation_data=prepared(validation),
            initial_epoch=state.epoch,
            epochs=end,
            steps_per_epoch=steps,
            callbacks=[recorder],
            shuffle=False,
            verbose=0,
        )

    xla = "with XLA" if model.jit_compile else "without XLA"
    print(f"Compiling the first step {xla}; this can take some minutes.")
    try:
        if state.validation_step:
            scores = model.evaluate(
                prepared(validation.skip(state.validation_step)),
                callbacks=[recorder],
                return_dict=True,
                verbose=0,
            )
            scores = {f"val_{name}": score for name, score in scores.items()}
            recorder.on_epoch_end(state.epoch, state.training_scores | scores)
        elif state.step:
            fit_epochs(state.epoch + 1, data.steps_per_epoch - state.step)
        if not state.finished and state.epoch < recorder.phase.end:
            fit_epochs(recorder.phase.end, data.steps_per_epoch)
        # The recorder of the next phase reads the event files.
        recorder.checkpoints.finish()
        averaging_optimizer(model).swap_averages()
    finally:
        recorder.close()
