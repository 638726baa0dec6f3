"""Stretches of epochs in which the same layers train."""

from dataclasses import dataclass

from lcc_tf.config import TrainConfig

# Of all steps: 5 of 90 epochs in Goyal et al. 2017, section 2.2 (https://arxiv.org/abs/1706.02677).
WARM_UP = 0.05
# Of the learning rate, once the encoder trains too; lower than before, as Keras' guide on transfer
# learning asks for (https://keras.io/guides/transfer_learning/).
GRADUAL_RATE = 0.1


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
