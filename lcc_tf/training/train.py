"""Trains one network: checks, data, network, epochs."""

from dataclasses import asdict
from pathlib import Path

import keras
import tensorflow as tf

from lcc_tf.config import XLA, TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset
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
from lcc_tf.training.label_rules import LabelRules, label_rules_of
from lcc_tf.training.optimizer import AveragingAdamW, averaging_optimizer
from lcc_tf.training.phases import Phase, learning_rate_of, phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import check_same_data, check_workdir
from lcc_tf.training.training_data import TrainingData, training_data_of

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
        config: the configuration.
        workdir: the run folder.
        resume: resume the run in `workdir`, if it contains one.
        strategy: to train under; None to choose one for the machine's devices.

    Returns:
        The state after the last epoch.

    Raises:
        InputError: the run folder is not free, the data set or the weights are not available, the
            batch does not fit, or the loss is not a finite number.
    """
    # Checks that cost nothing come before long work
    check_workdir(config, workdir, resume=resume)
    strategy = strategy or choose_strategy()
    check_batch_size(config.batch_size, strategy)
    check_xla(config.xla, strategy)
    state, checkpoint = read_state(workdir) if resume else (TrainingState(), None)
    if state.finished or state.epoch >= config.epochs:
        ending = "stopped early" if state.finished else "done"
        print(f"{workdir}: {ending} after {state.epoch} epochs already; nothing is left to train")
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
    rules = label_rules_of(config, builder)
    data = training_data_of(config, builder, rules)

    # The network
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = build(
            config,
            rules.num_classes,
            encoder_weights=None if checkpoint else config.encoder_weights,
        )
        synchronize_batch_norm(model, strategy)
    print(
        f"{config.arch} with {config.encoder}: {model.count_params():,} parameters, "
        f"{config.precision}, on {describe_devices(strategy)}"
    )
    write_run(run, model.count_params())

    # The epochs
    try:
        for index, phase in enumerate(phases_of(config)):
            if state.epoch >= phase.end:
                continue
            with strategy.scope():
                compile_for(phase, model, config, rules, data.steps_per_epoch)
                if checkpoint:
                    load_checkpoint(model, checkpoint, same_phase=index == state.phase)
                    checkpoint = None
            state.phase = index
            xla = "with XLA" if model.jit_compile else "without XLA"
            print(f"The first step is compiled {xla}, which takes up to some minutes.")
            fit(model, data, phase, RunRecorder(run, phase, state, data.steps_per_epoch))
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            f"The device's memory is too small for batch_size={config.batch_size} and "
            f"image_size={config.image_size} in {config.precision}. Use a smaller `batch_size` "
            "or `image_size`, or `precision='mixed_bfloat16'`."
        ) from error
    finally:
        write_history(workdir, state.history)
    return state


def build(config: TrainConfig, num_classes: int, *, encoder_weights: str | None) -> keras.Model:
    """Builds a configuration's network in its precision, and restores the global dtype policy."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return build_model(
            config.arch,
            num_classes,
            encoder_weights=encoder_weights,
            input_shape=(config.image_size, config.image_size, 3),
            **config.model_options(),
        )
    finally:
        keras.config.set_dtype_policy(policy)


def compile_for(
    phase: Phase,
    model: keras.Model,
    config: TrainConfig,
    rules: LabelRules,
    steps_per_epoch: int,
) -> None:
    """Sets the trainable layers of a phase and compiles the model with a fresh optimizer."""
    encoder = model.get_layer("encoder")
    encoder.trainable = phase.encoder_trains
    averaged = model.weights if phase.encoder_trains else _weights_without(model, encoder)
    optimizer = AveragingAdamW(
        learning_rate_of(phase, config.schedule, steps_per_epoch),
        weight_decay=config.weight_decay,
        slow_variables=encoder.trainable_variables,
        slow_rate=config.encoder_rate,
        averaged_variables=averaged if config.ema_decay else (),
        average_decay=config.ema_decay,
        epsilon=1e-8,
    )
    # Build now: variables created in the first step would trace it twice.
    optimizer.build(model.trainable_variables)
    loss = get_loss(
        config.loss,
        class_weights=rules.class_weights,
        label_smoothing=config.label_smoothing,
        ignore_class=rules.ignore_class,
    )
    scores = [
        MeanIoU(rules.num_classes, ignore_class=rules.ignore_class),
        *(
            ImagewiseScore(score, rules.num_classes, ignore_class=rules.ignore_class)
            for score in ("iou", "accuracy", "precision", "recall", "f1")
        ),
    ]
    jit_compile = XLA[config.xla]
    num_heads = len(model.outputs) - 1
    if num_heads:
        # The first output, the mean of all heads, is scored; the heads are trained.
        model.compile(
            optimizer,
            loss=[None, *([loss] * num_heads)],
            loss_weights=[0.0, *([1 / num_heads] * num_heads)],
            metrics=[scores, *([] for _ in range(num_heads))],
            jit_compile=jit_compile,
        )
    else:
        model.compile(optimizer, loss=loss, metrics=scores, jit_compile=jit_compile)


def _weights_without(model: keras.Model, part: keras.Model) -> list[keras.Variable]:
    part_ids = {id(variable) for variable in part.weights}
    return [variable for variable in model.weights if id(variable) not in part_ids]


def load_checkpoint(model: keras.Model, file: Path, *, same_phase: bool) -> None:
    """Loads a weights file into a compiled model.

    Args:
        model: compiled for the phase to train.
        file: `last.weights.h5` or `best.weights.h5`.
        same_phase: the file was saved in the phase to train, so its optimizer's variables fit.
    """
    restore(model, file, with_optimizer=same_phase)
    optimizer = averaging_optimizer(model)
    if same_phase:
        # Files contain the averages as the model's weights, and the weights as the averages.
        optimizer.swap_averages()
    else:
        optimizer.start_averages()


def fit(model: keras.Model, data: TrainingData, phase: Phase, recorder: RunRecorder) -> None:
    """Trains from the recorder's epoch to the phase's end, or until the score stops growing."""
    batches = data.training_batches(recorder.state.epoch)
    validation = data.validation_batches()
    num_outputs = len(model.outputs)
    if num_outputs > 1:
        batches = batches.map(lambda image, mask: (image, (mask,) * num_outputs))
        validation = validation.map(lambda image, mask: (image, (mask,) * num_outputs))
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=recorder.state.epoch,
        epochs=phase.end,
        steps_per_epoch=data.steps_per_epoch,
        callbacks=[
            recorder,
            keras.callbacks.TensorBoard(recorder.run.path / "tensorboard", write_graph=False),
        ],
        shuffle=False,
        verbose=0,
    )


def write_history(workdir: Path, history: list[dict[str, float]]) -> None:
    """Writes a run's `history.csv` and `curves.png`, if an epoch has been trained."""
    if history:
        write_history_table(workdir / HISTORY, history)
        save_curves(history, workdir / CURVES, title=workdir.name)
