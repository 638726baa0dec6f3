"""Build, compile, fit."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.config import XLA, TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.data.framing import RandomCrops
from lcc_tf.data.pipeline import (
    evaluation_batches,
    split_size,
    steps_per_epoch,
    training_batches,
)
from lcc_tf.data.statistics import class_pixels, native_size
from lcc_tf.errors import InputError
from lcc_tf.figures import save_curves
from lcc_tf.losses import class_weights_from_pixels, get_loss
from lcc_tf.metrics import ImagewiseScore, MeanIoU
from lcc_tf.models import build_model
from lcc_tf.runs import CONFIG, Run, read_run, write_run
from lcc_tf.training.checkpoints import (
    HISTORY,
    TrainingState,
    read_state,
    restore,
    save_checkpoint,
    write_history_table,
)
from lcc_tf.training.distribution import (
    check_batch_size,
    check_xla,
    choose_strategy,
    describe_devices,
    synchronize_batch_norm,
)
from lcc_tf.training.optimizer import AveragingAdamW
from tfds_deepglobe.classes import UNKNOWN

CURVES = "curves.png"
# Of all steps: 5 of 90 epochs in Goyal et al. 2017, section 2.2 (https://arxiv.org/abs/1706.02677).
WARM_UP = 0.05
# Of the learning rate, once the encoder trains too; lower than before, as Keras' guide on transfer
# learning asks for (https://keras.io/guides/transfer_learning/).
GRADUAL_RATE = 0.1


@dataclass(frozen=True)
class Truth:
    """What of the class ids counts, and how much."""

    num_classes: int
    ignored: int | None  # the class id that weighs nothing
    weights: tuple[float, ...] | None  # of each class in the loss; None: equal


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with the same layers training."""

    start: int  # epochs done before
    end: int  # epochs done after
    encoder_trains: bool
    learning_rate: float
    stops_early: bool


def phases_of(config: TrainConfig) -> list[Phase]:
    """What a regime means: one phase, or for `gradual` a frozen one and a slower one for all."""
    rate = config.learning_rate
    if config.regime == "gradual":
        return [
            Phase(0, config.frozen_epochs, False, rate, stops_early=False),
            Phase(config.frozen_epochs, config.epochs, True, rate * GRADUAL_RATE, stops_early=True),
        ]
    return [Phase(0, config.epochs, config.regime == "finetune", rate, stops_early=True)]


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


def truth_of(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> Truth:
    """What a configuration's class weights and ignored class mean for a data set.

    Raises:
        InputError: a single class, one to ignore that the data set does not have, or too few or
            many weights.
    """
    names = class_table(builder).names
    if len(names) < 2:
        raise InputError(
            f"There is nothing to tell apart: the data set has the class {names[0]!r} alone. List "
            "at least two classes in its class_dict.csv."
        )
    ignored = None
    if config.ignore_class in names:
        ignored = names.index(config.ignore_class)
    elif config.ignore_class not in (None, UNKNOWN):  # the default; not every data set has it
        raise InputError(
            f"The data set has no class {config.ignore_class!r} to ignore. Received: "
            f"ignore_class={config.ignore_class!r}. Choose one of {list(names)}, or `none`."
        )
    weights = config.class_weights
    if weights == "none":
        return Truth(len(names), ignored, None)
    if isinstance(weights, str):
        weights = tuple(
            class_weights_from_pixels(class_pixels(builder), weights, ignore_class=ignored).tolist()
        )
        shown = (f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
        print(f"class weights: {', '.join(shown)}")
    if len(weights) != len(names):
        raise InputError(
            f"`class_weights` needs a number for each of the {len(names)} classes {list(names)}. "
            f"Received: {weights}."
        )
    return Truth(len(names), ignored, weights)


def crops_of(
    config: TrainConfig, builder: tfds.core.DatasetBuilder, truth: Truth
) -> RandomCrops | None:
    """The crops that a configuration trains on; None where it trains on whole images."""
    if config.framing == "whole":
        return None
    rarity = np.zeros(truth.num_classes)
    if config.rare_class_share:
        rarity = class_weights_from_pixels(
            class_pixels(builder), "inverse_frequency", ignore_class=truth.ignored
        )
    return RandomCrops(config.crop_scale, config.rare_class_share, rarity.astype(np.float32))


def write_history(workdir: Path, history: list[dict[str, float]]) -> None:
    """Writes a run's `history.csv` and `curves.png`, if an epoch has been trained."""
    if history:
        write_history_table(workdir / HISTORY, history)
        save_curves(history, workdir / CURVES, title=workdir.name)


def check_same_data(run: Run, earlier: Run) -> None:
    """Checks that a run goes on with the data set that it was started with.

    Raises:
        InputError: files, classes or split have changed.
    """
    if (run.fingerprint, run.classes) != (earlier.fingerprint, earlier.classes):
        raise InputError(
            f"The data set {run.config.data.data} has changed since the run in {run.path} was "
            f"started (fingerprint {earlier.fingerprint[:16]}, now {run.fingerprint[:16]}), and "
            "with it the split: test images may have become training images. Bring it back, or "
            "start anew in another `--workdir`."
        )


def check_workdir(config: TrainConfig, workdir: Path, *, resume: bool) -> None:
    """Checks that a run folder is free, or that a run can go on there.

    Raises:
        InputError: the folder is taken, or the run in it has another configuration.
    """
    taken = workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))
    if not taken:
        return
    if not resume:
        raise InputError(
            f"{workdir} is not empty, and a run is never overwritten. Go on with the run in it by "
            "`--resume`, or choose another folder by `--workdir`."
        )
    run = read_run(workdir)
    if run.fingerprint is None:
        raise InputError(
            f"{workdir} holds an imported model, whose training cannot go on. Choose another "
            "folder by `--workdir`."
        )
    earlier = run.config.to_json()
    now = config.to_json()
    # The data set may have moved; whether it is the same one, its fingerprint tells.
    # Compiling with or without XLA changes no result beyond rounding.
    free = ("epochs", "data", "xla")
    changed = [name for name in now if name not in free and now[name] != earlier[name]]
    if changed:
        raise InputError(
            f"The run in {workdir} was started with other options: "
            + ", ".join(f"{name}={earlier[name]!r}, now {now[name]!r}" for name in changed)
            + ". Go on with the same ones (`--epochs` may differ), or start anew in another "
            "`--workdir`."
        )


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


def averaging_optimizer(model: keras.Model) -> AveragingAdamW:
    """A compiled model's optimizer, without the loss scaling that float16 puts around it."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class RunRecorder(keras.callbacks.Callback):
    """After each epoch: best weights, early stopping, checkpoint, history, one line of progress.

    Keras' own callbacks for these forget their counts when a training goes on in a new process.

    Args:
        config: of the run.
        phase: that is trained.
        state: updated in place.
        workdir: the run folder.
        steps: batches an epoch.
    """

    def __init__(
        self,
        config: TrainConfig,
        phase: Phase,
        state: TrainingState,
        workdir: Path,
        steps: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.phase = phase
        self.state = state
        self.workdir = workdir
        self.steps = steps

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the progress bar, which estimates the time until all epochs are done."""
        self.bar = tqdm(
            total=self.config.epochs * self.steps,
            initial=self.state.epoch * self.steps,
            desc=f"training {self.workdir.name}",
            unit="step",
            mininterval=1.0,
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the epoch's clock and its dropout."""
        self.start = time.monotonic()
        # No weights file keeps the state of dropout. Like order and augmentation, it follows from
        # seed and epoch, so that training that goes on is the same as without a break.
        for index, layer in enumerate(self.model._flatten_layers()):
            if isinstance(layer, keras.layers.Dropout):
                rng = np.random.default_rng([self.config.seed, epoch, index])
                layer.seed_generator.state.assign(rng.integers(2**32, size=2, dtype=np.uint32))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the progress bar."""
        self.bar.update(1)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Puts the averaged weights into the model, which are the ones to be scored and saved."""
        averaging_optimizer(self.model).swap_averages()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch that ended, and goes back to the weights that are trained."""
        prefix = f"{self.model.output_names[0]}_"  # Keras' for models with several outputs
        scores = {name.replace(prefix, ""): float(value) for name, value in logs.items()}
        if not all(math.isfinite(scores[name]) for name in ("loss", "val_loss")):
            self.bar.close()
            raise InputError(
                f"The loss is no finite number in epoch {epoch + 1} (loss={scores['loss']}, "
                f"val_loss={scores['val_loss']}). {self.workdir} keeps what was trained before. "
                "Start anew in another `--workdir` with a lower `--learning-rate` or "
                "`--precision float32`."
            )
        state = self.state
        state.epoch = epoch + 1
        state.history.append(
            {
                "epoch": state.epoch,
                "seconds": round(time.monotonic() - self.start, 1),
                "learning_rate": float(tf.convert_to_tensor(self.model.optimizer.learning_rate)),
                **scores,
            }
        )
        score = scores[self.config.monitor]
        if score > state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
        without_gain = state.epoch - max(state.best_epoch, self.phase.start)
        if self.phase.stops_early and without_gain >= self.config.patience:
            self.model.stop_training = state.finished = True
        save_checkpoint(self.workdir, self.model, state)
        averaging_optimizer(self.model).swap_averages()
        self.bar.write(
            f"epoch {state.epoch}/{self.config.epochs}  "
            + "  ".join(f"{name} {scores[name]:.4f}" for name in ("loss", "val_loss", "val_iou"))
            + f"  {self.config.monitor} {score:.4f}"
            + ("  (best so far)" if state.best_epoch == state.epoch else "")
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Ends the progress bar, with the averaged weights in the model, as in its file."""
        averaging_optimizer(self.model).swap_averages()
        if self.state.finished:
            self.bar.write(
                f"{self.config.monitor} has not grown for {self.config.patience} epochs; "
                f"the best is {self.state.best_score:.4f} of epoch {self.state.best_epoch}"
            )
        self.bar.close()
