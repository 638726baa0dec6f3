"""The batches that a network trains on."""

import numpy as np
import tensorflow_datasets as tfds

from lcc_tf.config import TrainConfig
from lcc_tf.data.framing import RandomCrops
from lcc_tf.data.statistics import class_pixels
from lcc_tf.losses import class_weights_from_pixels
from lcc_tf.training.label_rules import Truth


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
