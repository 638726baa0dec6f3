"""Build, compile, fit."""

import math
from dataclasses import asdict
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.config import XLA, TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.data.framing import RandomCrops
from lcc_tf.data.pipeline import (
    evaluation_batches,
    split_size,
    steps_per_epoch,
    training_batches,
)
from lcc_tf.data.statistics import native_size
from lcc_tf.errors import InputError
from lcc_tf.figures import save_curves
from lcc_tf.losses import get_loss
from lcc_tf.metrics import ImagewiseScore, MeanIoU
from lcc_tf.models import build_model
from lcc_tf.runs import CONFIG, Run, read_run, write_run
from lcc_tf.training.checkpoints import (
    HISTORY,
    TrainingState,
    read_state,
    restore,
    write_history_table,
)
from lcc_tf.training.distribution import (
    check_batch_size,
    check_xla,
    choose_strategy,
    describe_devices,
    synchronize_batch_norm,
)
from lcc_tf.training.label_rules import Truth, truth_of
from lcc_tf.training.optimizer import AveragingAdamW, averaging_optimizer
from lcc_tf.training.phases import WARM_UP, Phase, phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import check_same_data, check_workdir
from lcc_tf.training.training_data import crops_of

CURVES = "curves.png"


def train(
    config: TrainConfig,
    workdir: Path,
    *,
    resume: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainingState:
    """Trains one network and fills its run folder.

    Args:
        config: the run.
        workdir: its run folder.
        resume: goes on with the run that is in `workdir`, if there is one.
        strategy: what to train under; None for what the machine's devices call for.

    Returns:
        The state after the last epoch.

    Raises:
        InputError: the folder is taken, the data set or the weights can't be had, the batch does
            not fit, the loss is no number.
    """
    # Checks that cost nothing come first, long work after them
    check_workdir(config, workdir, resume=resume)
    strategy = strategy or choose_strategy()
    check_batch_size(config.batch_size, strategy)
    check_xla(config.xla, strategy)
    state, checkpoint = read_state(workdir) if resume else (TrainingState(), None)
    if state.finished or state.epoch >= config.epochs:
        how = "stopped early" if state.finished else "done"
        print(f"{workdir}: {how} after {state.epoch} epochs already; nothing is left to train")
        write_history(workdir, state.history)
        return state

    # The data set, prepared on first use
    builder = prepare_dataset(**asdict(config.data))
    run = Run(
        path=workdir,
        config=config,
        classes=class_table(builder),
        fingerprint=builder.info.metadata["fingerprint"],
        native_size=native_size(builder),
    )
    if resume and (workdir / CONFIG).exists():
        check_same_data(run, read_run(workdir))
    steps = steps_per_epoch(builder, config.batch_size)
    split_size(builder, "validation")
    truth = truth_of(config, builder)
    crops = crops_of(config, builder, truth)

    # The network
    keras.utils.set_random_seed(config.seed)
    usual_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        with strategy.scope():
            model = build_model(
                config.arch,
                run.classes.num_classes,
                encoder_weights=None if checkpoint else config.encoder_weights,
                input_shape=(config.image_size, config.image_size, 3),
                **config.model_options(),
            )
            synchronize_batch_norm(model, strategy)
    finally:
        keras.config.set_dtype_policy(usual_policy)
    print(
        f"{config.arch} with {config.encoder}: {model.count_params():,} parameters, "
        f"{config.precision}, on {describe_devices(strategy)}"
    )
    write_run(run, model.count_params())

    # The epochs
    phases = phases_of(config)
    try:
        for index, phase in enumerate(phases):
            if state.epoch >= phase.end:
                continue
            with strategy.scope():
                compile_for(phase, model, config, truth, steps)
                if checkpoint:
                    goes_on = index == state.phase
                    restore(model, checkpoint, with_optimizer=goes_on)
                    optimizer = averaging_optimizer(model)
                    # Files hold the averages as the model's weights, and the other way round.
                    optimizer.swap_averages() if goes_on else optimizer.start_averages()
                    checkpoint = None
            state.phase = index
            how = "with XLA" if model.jit_compile else "without XLA"
            print(f"The first step is compiled {how}, which takes up to some minutes.")
            fit(model, config, phase, builder, crops, steps, state, workdir)
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            f"The device's memory is too small for batch_size={config.batch_size} and "
            f"image_size={config.image_size} in {config.precision}. Use a smaller `--batch-size` "
            "or `--image-size`, or `--precision mixed_bfloat16`."
        ) from error
    finally:
        write_history(workdir, state.history)
    return state


def write_history(workdir: Path, history: list[dict[str, float]]) -> None:
    """Writes a run's `history.csv` and `curves.png`, if an epoch has been trained."""
    if history:
        write_history_table(workdir / HISTORY, history)
        save_curves(history, workdir / CURVES, title=workdir.name)


def compile_for(
    phase: Phase, model: keras.Model, config: TrainConfig, truth: Truth, steps: int
) -> None:
    """Sets which layers train and compiles with a fresh optimizer."""
    encoder = model.get_layer("encoder")
    encoder.trainable = phase.encoder_trains
    rate = phase.learning_rate
    all_steps = (phase.end - phase.start) * steps
    if config.schedule == "cosine" and all_steps > 1:
        warm_up = min(math.ceil(WARM_UP * all_steps), all_steps - 1)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, all_steps - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
    averaged = model.weights if phase.encoder_trains else _weights_but(model, encoder)
    optimizer = AveragingAdamW(
        rate,
        weight_decay=config.weight_decay,
        slow_variables=encoder.trainable_variables,
        slow_rate=config.encoder_rate,
        averaged_variables=averaged if config.ema_decay else (),
        average_decay=config.ema_decay,
        epsilon=1e-8,
    )
    # Variables that are made in the first step would have its graph built twice.
    optimizer.build(model.trainable_variables)
    loss = get_loss(
        config.loss,
        class_weights=truth.weights,
        label_smoothing=config.label_smoothing,
        ignore_class=truth.ignored,
    )
    scores = [
        MeanIoU(truth.num_classes, ignore_class=truth.ignored),
        *(
            ImagewiseScore(score, truth.num_classes, ignore_class=truth.ignored)
            for score in ("iou", "accuracy", "precision", "recall", "f1")
        ),
    ]
    jit_compile = XLA[config.xla]
    num_heads = len(model.outputs) - 1
    if num_heads:
        # The prediction is scored, the heads it is the mean of are trained.
        model.compile(
            optimizer,
            loss=[None, *([loss] * num_heads)],
            loss_weights=[0.0, *([1 / num_heads] * num_heads)],
            metrics=[scores, *([] for _ in range(num_heads))],
            jit_compile=jit_compile,
        )
    else:
        model.compile(optimizer, loss=loss, metrics=scores, jit_compile=jit_compile)


def _weights_but(model: keras.Model, part: keras.Model) -> list[keras.Variable]:
    left_out = {id(variable) for variable in part.weights}
    return [variable for variable in model.weights if id(variable) not in left_out]


def fit(
    model: keras.Model,
    config: TrainConfig,
    phase: Phase,
    builder: tfds.core.DatasetBuilder,
    crops: RandomCrops | None,
    steps: int,
    state: TrainingState,
    workdir: Path,
) -> None:
    """Trains from the state's epoch to the phase's end or until the score no longer grows."""
    batches = training_batches(
        builder,
        image_size=config.image_size,
        batch_size=config.batch_size,
        seed=config.seed,
        first_epoch=state.epoch,
        crops=crops,
    )
    # Filled up, so that no replica gets an empty batch: convolutions on the CPU fail on those.
    # Each batch counts alike in `val_loss` then, as in the original.
    validation = evaluation_batches(
        builder,
        "validation",
        image_size=config.image_size,
        batch_size=config.batch_size,
        quarters=config.framing == "crops",
        fill_up=True,
    )
    if len(model.outputs) > 1:
        copies = len(model.outputs)
        batches = batches.map(lambda image, mask: (image, (mask,) * copies))
        validation = validation.map(lambda image, mask: (image, (mask,) * copies))
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=state.epoch,
        epochs=phase.end,
        steps_per_epoch=steps,
        callbacks=[
            RunRecorder(config, phase, state, workdir, steps),
            keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
        ],
        shuffle=False,
        verbose=0,
    )
