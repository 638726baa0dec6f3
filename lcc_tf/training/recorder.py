"""Records the epochs of a training in its run folder."""

import math
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lcc_tf.errors import InputError
from lcc_tf.models.layers import all_layers
from lcc_tf.runs import Run
from lcc_tf.training.checkpoints import TrainingState, save_checkpoint
from lcc_tf.training.history import with_original_scores, write_table
from lcc_tf.training.optimizer import averaging_optimizer
from lcc_tf.training.phases import Phase

# Number of epochs whose average score selects the best weights. The score of a single epoch varies
# at random if the validation split is small.
AVERAGED_EPOCHS = 3


class RunRecorder(keras.callbacks.Callback):
    """Callback that writes checkpoints and history, stops early and shows the progress.

    The Keras callbacks for these tasks lose their counts when a training resumes in a new process.
    An example is the number of epochs without a better score.

    Args:
        run: run to record.
        phase: phase to train.
        state: state of the training, updated in place.
        steps_per_epoch: batches per epoch.
        is_chief: True to write files and to show the progress. On several machines, one worker is
            the chief.
    """

    def __init__(
        self,
        run: Run,
        phase: Phase,
        state: TrainingState,
        steps_per_epoch: int,
        *,
        is_chief: bool = True,
    ) -> None:
        super().__init__()
        self.is_chief = is_chief
        self.run = run
        self.phase = phase
        self.state = state
        self.steps_per_epoch = steps_per_epoch

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts a progress bar over all epochs of the training."""
        self.bar = tqdm(
            total=self.run.config.epochs * self.steps_per_epoch,
            initial=self.state.epoch * self.steps_per_epoch,
            desc=f"training {self.run.path.name}",
            unit="step",
            mininterval=1.0,
            disable=not self.is_chief,
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Records the start time of the epoch and seeds the dropout layers."""
        self.start = time.monotonic()
        # Weights files do not contain the random state of dropout layers. With a new seed in each
        # epoch, a resumed training equals an uninterrupted training. The image order and the
        # augmentation also have one seed per epoch.
        for index, layer in enumerate(all_layers(self.model)):
            if isinstance(layer, keras.layers.Dropout):
                rng = np.random.default_rng([self.run.config.seed, epoch, index])
                layer.seed_generator.state.assign(rng.integers(2**32, size=2, dtype=np.uint32))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Advances the progress bar by one step."""
        self.bar.update(1)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Loads the averaged weights into the model, for validation and checkpoints."""
        averaging_optimizer(self.model).swap_averages()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch, then loads the trained weights into the model again."""
        config = self.run.config
        # If a model has several outputs, Keras adds a prefix to the names of the scores.
        prefix = f"{self.model.output_names[0]}_"
        scores = with_original_scores(
            {name.replace(prefix, ""): float(value) for name, value in logs.items()},
            self.run.classes.num_classes,
        )
        logs |= scores  # `TensorBoard` runs after this callback and reads `logs`
        if not all(math.isfinite(scores[name]) for name in ("loss", "val_loss")):
            self.bar.close()
            earlier = f"Earlier epochs are in {self.run.path}. " if self.state.history else ""
            raise InputError(
                f"The loss is not a finite number in epoch {epoch + 1}. Received: "
                f"loss={scores['loss']}, val_loss={scores['val_loss']}. "
                f"{earlier}Train in another `workdir` with a lower `learning_rate` or with "
                "`precision='float32'`."
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
        last = [row[config.monitor] for row in state.history[-AVERAGED_EPOCHS:]]
        score = sum(last) / len(last)
        if score > state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
        epochs_without_gain = state.epoch - max(state.best_epoch, self.phase.start)
        if self.phase.stops_early and epochs_without_gain >= config.patience:
            self.model.stop_training = state.finished = True
        if self.is_chief:
            save_checkpoint(self.run.path, self.model, state)
            write_table(self.run.path, state.history)
        averaging_optimizer(self.model).swap_averages()
        self.bar.write(
            f"epoch {state.epoch}/{config.epochs}  "
            + "  ".join(f"{name} {scores[name]:.4f}" for name in ("loss", "val_loss", "val_iou"))
            + f"  {config.monitor} {scores[config.monitor]:.4f}"
            + ("  (best so far)" if state.best_epoch == state.epoch else "")
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Loads the averaged weights into the model and closes the progress bar.

        The weights of the model then equal the weights in `last.weights.h5`.
        """
        averaging_optimizer(self.model).swap_averages()
        if self.state.finished:
            self.bar.write(
                f"The training stops early, because {self.run.config.monitor}, averaged over "
                f"{AVERAGED_EPOCHS} epochs, has not increased for {self.run.config.patience} "
                f"epochs. The best average is {self.state.best_score:.4f}, in epoch "
                f"{self.state.best_epoch}."
            )
        self.bar.close()
