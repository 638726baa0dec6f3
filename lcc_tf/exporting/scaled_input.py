"""Networks that accept bands already scaled to [0, 255], for exports with 8-bit integers."""

import keras
import numpy as np

from lcc_tf.bands import Bands
from lcc_tf.models.layers import all_layers
from lcc_tf.models.preprocessing import EncoderPreprocessing, bands_of


def with_scaled_input(model: keras.Model) -> keras.Model:
    """Copies a network, so that the copy accepts scaled bands instead of original values.

    In an 8-bit export, all bands of the input share one scale with 256 values. If the ranges of the
    original bands differ, this scale is too coarse for the bands with small ranges.

    Args:
        model: a functional Keras model, which can contain other models.

    Returns:
        A model that shares the variables of `model`. The new model accepts the values in [0, 255]
        that `bands_of(model).affine` computes. If the model has no bands, `model` itself.
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
    """Returns a preprocessing layer for bands that were scaled with the ranges of `bands`.

    In an ensemble, the ranges of a network can differ from the ranges of `bands`.
    """
    factor, offset = bands.affine
    ranges = np.array(layer.bands.ranges) * factor[:, None] + offset[:, None]
    config = layer.get_config()
    config["bands"] = Bands(bands.names, tuple(map(tuple, ranges))).to_json()
    return EncoderPreprocessing(**config)
