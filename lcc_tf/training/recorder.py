"""Records the steps and epochs of a training in its run folder."""

import math
import signal
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lcc_tf.errors import DivergenceError
from lcc_tf.files import explain_write_errors
from lcc_tf.models.layers import all_layers
from lcc_tf.runs import Run
from lcc_tf.training.checkpoints import (
    CheckpointWriter,
    TrainingState,
    WeightsFile,
    best_of_epoch,
    training_variables,
)
from lcc_tf.training.distribution import at_any_worker
from lcc_tf.training.event_files import EventFiles
from lcc_tf.training.history import with_original_scores, write_table
from lcc_tf.training.interruption import SignalDelay
from lcc_tf.training.optimizer import averaging_optimizer
from lcc_tf.training.phases import Phase
from lcc_tf.training.training_data import TrainingData

# Number of epochs whose average score selects the best weights. The score of a single epoch varies
# at random if the validation split is small.
AVERAGED_EPOCHS = 3
# Largest number of skipped steps per epoch. More skipped steps mean that the training diverges.
MAX_SKIPPED_STEPS = 10
# A training in float16 stops after this number of consecutive steps whose gradients are not finite.
# These steps change no weights. Keras multiplies the loss by a factor, which starts at 2**15, and
# halves the factor after each of these steps. After 16 steps, the factor is 0.5. The gradients are
# then not finite without the factor, too.
MAX_INFINITE_STEPS = 16


class RunRecorder(keras.callbacks.Callback):
    """Callback that writes checkpoints and history, stops early and shows the progress.

    The Keras callbacks for these tasks lose their counts when a training resumes in a new process.
    An example is the number of epochs without a better score.

    Args:
        run: run to record.
        phase: phase to train.
        state: state of the training, updated in place.
        data: batches of the training.
        checkpoints: writer of the checkpoints.
        delay: delay of signals. If a signal has arrived, a checkpoint is written after the current
            step, and the training stops.
        sums: metrics of the checkpoint from which the training resumes, see
            `lcc_tf.training.checkpoints.restore`; empty for a new training.
        is_chief: True to write files and to show the progress. On several machines, one worker is
            the chief.
    """

    def __init__(
        self,
        run: Run,
        phase: Phase,
        state: TrainingState,
        data: TrainingData,
        checkpoints: CheckpointWriter,
        delay: SignalDelay,
        sums: dict[str, np.ndarray],
        *,
        is_chief: bool = True,
    ) -> None:
        super().__init__()
        self.is_chief = is_chief
        self.run = run
        self.phase = phase
        self.state = state
        self.data = data
        self.checkpoints = checkpoints
        self.delay = delay
        # The sums in a checkpoint between two epochs belong to a finished validation, and are not
        # needed.
        self.sums = sums if state.step else {}
        self.events = EventFiles(run.path) if is_chief else None
        self.infinite_steps = 0  # consecutive steps with an infinite gradient, in float16
        # Factor of the loss after the previous step, in float16. With 0, the first step is not
        # counted as a step with an infinite gradient.
        self.loss_scale = 0.0
        self.last_checkpoint = time.monotonic()
        self.start = time.monotonic() - state.seconds
        self.bar = tqdm(
            total=run.config.epochs * data.steps_per_epoch,
            initial=state.epoch * data.steps_per_epoch + state.step,
            desc=f"training {run.path.name}",
            unit="step",
            mininterval=1.0,
            disable=not self.is_chief,
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Records the start time of the epoch and seeds the dropout layers."""
        self.start = time.monotonic() - self.state.seconds
        if self.state.step:
            return  # the checkpoint contains the random states
        # With a new seed in each epoch, the random numbers depend only on the seed of the run and
        # on the number of the epoch. The image order and the augmentation also depend only on both.
        for index, layer in enumerate(all_layers(self.model)):
            if isinstance(layer, keras.layers.Dropout):
                rng = np.random.default_rng([self.run.config.seed, epoch, index])
                layer.seed_generator.state.assign(rng.integers(2**32, size=2, dtype=np.uint32))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Keeps the values of all variables, if a step can be skipped."""
        if self.run.config.on_nan == "skip":
            # These tensors keep the old values, because TensorFlow copies values that are still in
            # use before it changes a variable.
            self.before = {
                name: tf.convert_to_tensor(variable)
                for name, variable in training_variables(self.model).items()
            }

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the step, and writes a checkpoint if one is due."""
        self.delay.is_active = True
        norm = float(tf.convert_to_tensor(averaging_optimizer(self.model).gradient_norm))
        if not (math.isfinite(logs["loss"]) and math.isfinite(norm)):
            self._stop_or_skip(logs["loss"], norm)
        self._count_infinite_steps()
        self._add_earlier_sums()
        self.state.step += 1
        self.bar.update(1)
        # The last step of an epoch needs no checkpoint, because the validation follows.
        if self.state.step < self.data.steps_per_epoch:
            self._write_checkpoint_if_due()

    def _stop_or_skip(self, loss: float, norm: float) -> None:
        """Undoes a step whose loss or gradient is not finite.

        Raises:
            DivergenceError: `on_nan` is "stop", or too many steps of the epoch were skipped.
        """
        config, state = self.run.config, self.state
        ids = self.data.image_ids(state.epoch, state.step)
        received = (
            f"in step {state.step + 1} of epoch {state.epoch + 1}. Received: mean loss of the "
            f"epoch={loss:g}, gradient norm={norm:g}, learning_rate={self._learning_rate():g}, "
            f"images {', '.join(ids)}."
        )
        if config.on_nan == "skip" and state.skipped_steps < MAX_SKIPPED_STEPS:
            state.skipped_steps += 1
            for name, variable in training_variables(self.model).items():
                # Keras creates some metrics in the first step. `before` does not contain these
                # metrics: their value before the step is 0.
                is_new = name.startswith("metrics/") and name not in self.before
                zero = tf.zeros(variable.shape, variable.dtype)
                variable.assign(zero if is_new else self.before[name])
            self.bar.write(
                f"warning: skipped an update, because the loss or the gradient is not finite "
                f"{received}"
            )
            return
        limit = f"{MAX_SKIPPED_STEPS} steps of this epoch were skipped before. "
        raise DivergenceError(
            f"The loss or the gradient is not a finite number {received} "
            f"{limit if config.on_nan == 'skip' else ''}"
            "Earlier checkpoints are unchanged. Train in another `workdir` with a lower "
            "`learning_rate` or with `precision='float32'`"
            + (", or resume with `on_nan='skip'`." if config.on_nan == "stop" else ".")
        )

    def _count_infinite_steps(self) -> None:
        """Counts consecutive steps in float16 after which Keras lowers the factor of the loss.

        Raises:
            DivergenceError: there are `MAX_INFINITE_STEPS` such steps.
        """
        if not isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            return  # not float16
        scale = float(tf.convert_to_tensor(self.model.optimizer.dynamic_scale))
        self.infinite_steps = self.infinite_steps + 1 if scale < self.loss_scale else 0
        self.loss_scale = scale
        if self.infinite_steps >= MAX_INFINITE_STEPS:
            raise DivergenceError(
                f"In {self.infinite_steps} consecutive steps, the gradient was not finite in "
                f"float16. The last one was step {self.state.step + 1} of epoch "
                f"{self.state.epoch + 1}. These steps did not change the weights. Earlier "
                "checkpoints are unchanged. Train in another `workdir` with "
                "`precision='mixed_bfloat16'`, `precision='float32'` or a lower `learning_rate`."
            )

    def _learning_rate(self) -> float:
        return float(tf.convert_to_tensor(self.model.optimizer.learning_rate))

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Loads the averaged weights into the model, for validation and weights files."""
        if not self.state.training_scores:
            scores = self.model.get_metrics_result()
            self.state.training_scores = {name: float(value) for name, value in scores.items()}
        averaging_optimizer(self.model).swap_averages()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the batch, and writes a checkpoint if one is due."""
        self.delay.is_active = True
        self._add_earlier_sums()
        self.state.validation_step += 1
        # The last batch needs no checkpoint, because the end of the epoch follows.
        if self.state.validation_step < self.data.validation_steps:
            self._write_checkpoint_if_due()

    def _add_earlier_sums(self) -> None:
        """Adds the sums of the interrupted epoch to the metrics.

        The checkpoint contains the sums until the interruption. Keras resets the metrics at the
        start of an epoch, and creates some of their variables in the first step. Therefore the sums
        of the checkpoint can be added only after the first step.
        """
        sums, self.sums = self.sums, {}
        for name, variable in training_variables(self.model).items() if sums else ():
            if name in sums:
                variable.assign(variable + sums[name])

    def _write_checkpoint_if_due(self) -> None:
        """Writes a checkpoint if a signal has arrived, or if the last checkpoint is too old.

        During validation, the model contains the averaged weights, but checkpoints contain the
        trained weights. Therefore this method swaps the weights before and after it writes.
        """
        self.checkpoints.raise_errors()
        seconds = 60 * self.run.config.checkpoint_minutes
        is_time = self.is_chief and time.monotonic() - self.last_checkpoint >= seconds
        is_due, stops = at_any_worker(
            [is_time and not self.checkpoints.is_writing, self.delay.received is not None],
            self.model.distribute_strategy,
        )
        if not (is_due or stops):
            return
        self.state.seconds = time.monotonic() - self.start
        if self.state.training_scores:
            averaging_optimizer(self.model).swap_averages()
        self.checkpoints.write(self.model, self.state, wait=stops)
        if self.state.training_scores:
            averaging_optimizer(self.model).swap_averages()
        self.last_checkpoint = time.monotonic()
        if stops:
            self.delay.deliver(default=signal.SIGTERM)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch, then loads the trained weights into the model again."""
        config = self.run.config
        # If a model has several outputs, Keras adds a prefix to the names of the scores.
        prefix = f"{self.model.output_names[0]}_"
        scores = with_original_scores(
            {name.replace(prefix, ""): float(value) for name, value in logs.items()},
            self.run.classes.num_classes,
        )
        state = self.state
        if not all(math.isfinite(scores[name]) for name in ("loss", "val_loss")):
            raise DivergenceError(
                f"The loss is not a finite number in epoch {epoch + 1}. Received: "
                f"loss={scores['loss']}, val_loss={scores['val_loss']}. Earlier checkpoints are "
                "unchanged. Train in another `workdir` with a lower `learning_rate` or with "
                "`precision='float32'`."
            )
        state.epoch = epoch + 1
        state.history.append(
            {
                "epoch": state.epoch,
                "seconds": round(time.monotonic() - self.start, 1),
                "learning_rate": self._learning_rate(),
                **scores,
            }
        )
        state.step, state.validation_step, state.skipped_steps = 0, 0, 0
        state.seconds, state.training_scores = 0.0, {}
        last = [row[config.monitor] for row in state.history[-AVERAGED_EPOCHS:]]
        score = sum(last) / len(last)
        best = None
        # In the first two epochs, the average has fewer than three scores, and can be high by
        # chance. Therefore the third epoch always replaces the best epoch.
        if state.epoch == AVERAGED_EPOCHS or score > state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            if self.is_chief:
                best = WeightsFile(self.model, best_of_epoch(self.run.path, state.epoch))
        epochs_without_gain = state.epoch - max(state.best_epoch, self.phase.start)
        if self.phase.stops_early and epochs_without_gain >= config.patience:
            self.model.stop_training = state.finished = True
        averaging_optimizer(self.model).swap_averages()
        (stops,) = at_any_worker([self.delay.received is not None], self.model.distribute_strategy)
        history = list(state.history)
        self.checkpoints.write(
            self.model, state, wait=stops, best=best, then=lambda: self._write_history(history)
        )
        self.last_checkpoint = time.monotonic()
        self.bar.write(
            f"epoch {state.epoch}/{config.epochs}  "
            + "  ".join(f"{name} {scores[name]:.4f}" for name in ("loss", "val_loss", "val_iou"))
            + f"  {config.monitor} {scores[config.monitor]:.4f}"
            + ("  (best so far)" if state.best_epoch == state.epoch else "")
        )
        if stops:
            self.delay.deliver(default=signal.SIGTERM)

    def _write_history(self, history: list[dict[str, float]]) -> None:
        """Writes the event files and the table.

        They are written after the checkpoint. If the training is killed in between, the resumed
        training adds the missing epoch.
        """
        with explain_write_errors(self.run.path / "tensorboard"):
            self.events.write(history)
        write_table(self.run.path, history)

    def close(self) -> None:
        """Closes the progress bar; prints the reason if the training stops early."""
        if self.state.finished:
            self.bar.write(
                f"The training stops early, because {self.run.config.monitor}, averaged over "
                f"{AVERAGED_EPOCHS} epochs, has not increased for {self.run.config.patience} "
                f"epochs. The best average is {self.state.best_score:.4f}, in epoch "
                f"{self.state.best_epoch}."
            )
        self.bar.close()
