"""Records a training after each epoch."""

import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.training.checkpoints import TrainingState, save_checkpoint
from lcc_tf.training.optimizer import averaging_optimizer
from lcc_tf.training.phases import Phase


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
