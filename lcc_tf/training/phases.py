"""Phases of a training, and their learning rates."""

import math
from dataclasses import dataclass

import keras

from lcc_tf.config import TrainConfig

# Fraction of all steps: 5 of 90 epochs in Goyal et al. 2017, section 2.2
# (https://arxiv.org/abs/1706.02677).
WARM_UP = 0.05
# Factor of the learning rate in the second phase of `gradual`, in which the encoder trains too.
# Keras' guide to transfer learning recommends a lower learning rate for this phase
# (https://keras.io/guides/transfer_learning/).
GRADUAL_RATE = 0.1


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs in which the same layers train."""

    start: int  # number of epochs before the phase
    end: int  # number of epochs at its end
    encoder_trains: bool
    learning_rate: float
    stops_early: bool


def phases_of(config: TrainConfig) -> list[Phase]:
    """Returns the phases of a configuration's regime: two for `gradual`, otherwise one."""
    rate = config.learning_rate
    if config.regime == "gradual":
        return [
            Phase(0, config.frozen_epochs, False, rate, stops_early=False),
            Phase(config.frozen_epochs, config.epochs, True, rate * GRADUAL_RATE, stops_early=True),
        ]
    return [Phase(0, config.epochs, config.regime == "finetune", rate, stops_early=True)]


def learning_rate_of(
    phase: Phase, schedule: str, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a phase, a number or a schedule.

    Args:
        phase: the phase.
        schedule: "constant", or "cosine" for a linear warm-up and cosine decay to 0.
        steps_per_epoch: batches per epoch.
    """
    steps = (phase.end - phase.start) * steps_per_epoch
    if schedule == "constant" or steps == 1:
        return phase.learning_rate
    warm_up = min(math.ceil(WARM_UP * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=phase.learning_rate, warmup_steps=warm_up
    )
