"""Detection of models that return probabilities, not logits."""

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.models import ensemble, outputs_probabilities


def output_kinds():
    """Returns a dictionary from a description to a small model and the expected detection."""
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(2, 1)(image)
    softmax = keras.layers.Softmax()
    probabilities = softmax(logits)
    nested = keras.Model(image, [logits, probabilities])
    outer = keras.Input((8, 8, 3))
    flipped = outer[:, ::-1]
    return {
        "softmax layer": (keras.Model(image, probabilities), True),
        "second call of a softmax layer": (keras.Model(image, softmax(2 * logits)), True),
        "activation layer": (keras.Model(image, keras.layers.Activation("softmax")(logits)), True),
        "activation of a convolution": (
            keras.Sequential(
                [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, activation="softmax")]
            ),
            True,
        ),
        "operation": (keras.Model(image, keras.ops.softmax(logits)), True),
        "nested": (keras.Model(outer, nested(flipped)[1]), True),
        "first of several outputs": (keras.Model(image, [probabilities, logits]), True),
        "ensemble": (ensemble([keras.Model(image, logits)], average="logits"), True),
        "logits": (keras.Model(image, logits), False),
        "nested logits": (keras.Model(outer, nested(flipped)[0]), False),
        "softmax inside": (
            keras.Model(image, keras.layers.Conv2D(2, 1)(probabilities)),
            False,
        ),
        "second of several outputs": (keras.Model(image, [logits, probabilities]), False),
    }


def test_probabilities_are_distinguished_from_logits():
    kinds = output_kinds()
    found = {name: outputs_probabilities(model) for name, (model, _) in kinds.items()}
    assert found == {name: expected for name, (_, expected) in kinds.items()}


def test_ensemble_applies_no_softmax_to_probabilities():
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    for name, (model, _) in output_kinds().items():
        output = keras.tree.flatten(model(x))[0]
        expected = output if outputs_probabilities(model) else tf.nn.softmax(output)
        np.testing.assert_allclose(ensemble([model])(x), expected, atol=1e-6, err_msg=name)


def test_softmax_is_found_before_layers_that_keep_probabilities():
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(2, 1)(image)
    for make in (keras.layers.Softmax(), lambda x: x):
        x = keras.layers.UpSampling2D(2, interpolation="bilinear")(make(logits))
        x = keras.layers.Activation("linear", dtype="float32")(keras.layers.Cropping2D(1)(x))
        expected = isinstance(make, keras.layers.Softmax)
        assert outputs_probabilities(keras.Model(image, x)) == expected
