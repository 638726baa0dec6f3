"""Networks whose input is bands that are already scaled to [0, 255], for 8-bit integers."""

import keras
import numpy as np

from lcc_tf.bands import Bands
from lcc_tf.models.layers import all_layers
from lcc_tf.models.preprocessing import EncoderPreprocessing, bands_of


def with_scaled_input(model: keras.Model) -> keras.Model:
    """Copies a network such that its input is scaled bands instead of original values.

    8-bit integers have only 256 steps. If bands have different units, the original values of all
    bands do not fit into one range of 256 steps.

    Args:
        model: a functional Keras model, which can contain other models.

    Returns:
        A model that shares the variables of `model`. Its input has the values that `Bands.affine`
        of `bands_of(model)` computes, in [0, 255]. If the model has no bands, `model` itself.
    """
    bands = bands_of(model)
    return _replaced(model, bands) if bands else model


def _replaced(model: keras.Model, bands: Bands) -> keras.Model:
    if not any(isinstance(layer, EncoderPreprocessing) for layer in all_layers(model)):
        return model

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return _replaced(layer, bands)
        return _for_scaled(layer, bands) if isinstance(layer, EncoderPreprocessing) else layer

    return keras.models.clone_model(model, clone_function=replace)


def _for_scaled(layer: EncoderPreprocessing, bands: Bands) -> EncoderPreprocessing:
    """Returns the preprocessing of a member whose ranges may differ from the ranges of `bands`."""
    factor, offset = bands.affine
    ranges = np.array(layer.bands.ranges) * factor[:, None] + offset[:, None]
    config = layer.get_config()
    config["bands"] = Bands(bands.names, tuple(map(tuple, ranges))).to_json()
    return EncoderPreprocessing(**config)
