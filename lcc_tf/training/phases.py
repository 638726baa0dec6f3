"""Phases of a training, and their learning rates.

A phase is a group of consecutive epochs with the same trainable layers.
"""

import math
from dataclasses import dataclass

import keras

from lcc_tf.config import TrainConfig

# Fraction of a phase's steps in which the learning rate rises from 0. Goyal et al. 2017 use 5 of 90
# epochs (https://arxiv.org/abs/1706.02677, section 2.2).
WARM_UP = 0.05
# Factor of the learning rate in the second phase of the regime `gradual`. The encoder is frozen in
# the first phase and trains in the second phase. The Keras guide to transfer learning recommends a
# lower learning rate for the second phase (https://keras.io/guides/transfer_learning/).
GRADUAL_RATE = 0.1


@dataclass(frozen=True)
class Phase:
    """Group of consecutive epochs with the same trainable layers."""

    start: int  # number of epochs before the phase
    end: int  # number of epochs from the start of the training to the end of the phase
    encoder_trains: bool  # False if the encoder is frozen
    learning_rate: float  # largest learning rate of the schedule
    stops_early: bool  # True if early stopping can end the training in this phase


def phases_of(config: TrainConfig) -> list[Phase]:
    """Returns the phases of a configuration: two for the regime `gradual`, otherwise one."""
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
    """Returns the learning rate of a phase, as a number or as a schedule.

    Args:
        phase: the phase.
        schedule: "constant", or "cosine" for a linear warm-up and then a cosine decay to 0.
        steps_per_epoch: batches per epoch.
    """
    steps = (phase.end - phase.start) * steps_per_epoch
    if schedule == "constant" or steps == 1:
        return phase.learning_rate
    warm_up = min(math.ceil(WARM_UP * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=phase.learning_rate, warmup_steps=warm_up
    )
