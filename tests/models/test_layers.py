"""The list of all layers of a model."""

import keras

from lcc_tf.models import build_model
from lcc_tf.models.layers import all_layers


def test_layers_of_nested_models_are_included():
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, keras.layers.Dense(2, name="inner_dense")(inputs), name="inner")
    model = keras.Model(inputs, keras.layers.Dropout(0.5, name="outer_dropout")(inner(inputs)))
    layers = all_layers(model)
    assert layers[0] is model
    assert {"inner", "inner_dense", "outer_dropout"} <= {layer.name for layer in layers}


def test_order_of_layers_is_unchanged(tiny_encoder):
    # Training derives the random seed of dropout from the position of the layer. Therefore another
    # order would change resumed runs.
    model = build_model("deeplabv3plus", 7, encoder=tiny_encoder, encoder_weights=None)
    names = [layer.name for layer in all_layers(model)]
    assert names.index("aspp_dropout") == 41
