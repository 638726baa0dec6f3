"""Detection of models that return probabilities instead of logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.export import export
from lcc_tf.models import ensemble, outputs_probabilities
from lcc_tf.prediction.predictors import predict_tiled
from lcc_tf.scoring.evaluate import evaluate
from tfds_deepglobe.classes import ClassTable


def output_kinds():
    """Returns a dictionary. Key: description. Value: small model and expected detection."""
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


def other_softmaxes():
    """Returns models whose last layer does not show that they return probabilities."""
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(4, 1)(image)
    softmax = keras.layers.Softmax()(logits)
    other = keras.layers.Softmax()(keras.layers.Conv2D(4, 1)(image))
    outputs = {
        "function of TensorFlow": keras.layers.Conv2D(4, 1, activation=tf.nn.softmax)(image),
        "function of Keras": keras.layers.Activation(keras.ops.softmax)(logits),
        "lambda": keras.layers.Lambda(tf.nn.softmax)(logits),
        "average": keras.layers.Average()([softmax, other]),
        "dropout": keras.layers.Dropout(0.5)(softmax),
        "cast": keras.ops.cast(softmax, "float16"),
    }
    return {name: keras.Model(image, output) for name, output in outputs.items()}


@pytest.mark.parametrize(("name", "model"), other_softmaxes().items())
def test_softmax_of_other_layers_is_found_by_a_prediction(name, model):
    assert outputs_probabilities(model)
    image = np.random.default_rng(1).uniform(0, 255, (32, 32, 3)).astype(np.float32)
    expected = np.asarray(model(image[None]), np.float32)[0]
    np.testing.assert_allclose(predict_tiled(model, image, tile=32), expected, atol=1e-3)
    np.testing.assert_allclose(ensemble([model])(image[None])[0], expected, atol=1e-3)


def test_logits_of_other_layers_are_found_by_a_prediction():
    image = keras.Input((None, None, 3))
    logits = keras.layers.Lambda(lambda x: x * 2)(keras.layers.Conv2D(4, 1)(image))
    assert not outputs_probabilities(keras.Model(image, logits))


def test_sigmoid_of_another_layer_raises():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 1, activation=tf.nn.sigmoid)(image))
    with pytest.raises(InputError, match="whose values are in .0, 1. but do not sum"):
        predict_tiled(model, np.zeros((32, 32, 3)), tile=32)


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


def network(*layers, shape=(None, None, 3)):
    """Returns a sequential model of layers."""
    return keras.Sequential([keras.Input(shape), *layers], name="net")


def convolution(num_classes=3, **options):
    return keras.layers.Conv2D(num_classes, 1, **options)


def invalid_models():
    """Returns a dictionary. Key: description. Value: model and error message."""
    image = keras.Input((None, None, 3))
    sigmoid = keras.layers.Activation("sigmoid")
    one_channel = "2 output channels or more.*'net'.*, 1\\).*num_classes=2"
    probabilities = "must be logits.*'net'.*sigmoid.*softmax"
    return {
        "one channel": (network(convolution(1)), one_channel),
        "sigmoid of one channel": (network(convolution(1, activation="sigmoid")), one_channel),
        "sigmoid of a layer": (network(convolution(activation="sigmoid")), probabilities),
        "sigmoid layer": (network(convolution(), sigmoid), probabilities),
        "upsampled": (
            network(convolution(strides=2), sigmoid, keras.layers.UpSampling2D(2)),
            probabilities,
        ),
        "nested": (network(network(convolution(), sigmoid)), probabilities),
        "operation": (
            keras.Model(image, keras.ops.sigmoid(convolution()(image)), name="net"),
            probabilities,
        ),
        "classifier": (
            network(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)),
            r"output.*\(batch, height, width, num_classes\).*\(None, 3\)",
        ),
        "stride": (
            network(convolution(strides=2), shape=(64, 64, 3)),
            "output.*32x32 pixels.*64x64 pixels.*UpSampling2D",
        ),
        "four bands": (network(convolution(), shape=(None, None, 4)), "one input, RGB.*, 4\\)"),
    }


@pytest.mark.parametrize("kind", invalid_models())
def test_invalid_models_raise_everywhere(kind, tmp_path):
    model, match = invalid_models()[kind]
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    num_classes = model.outputs[0].shape[-1]
    colors = ((1, 1, 1), (2, 2, 2), (3, 3, 3))[:num_classes]
    classes = ClassTable(("a", "b", "c")[:num_classes], colors)
    calls = (
        lambda: predict_tiled(model, image, tile=64),
        lambda: evaluate(model, [(image, mask)], classes=classes, protocols=["glnet"], tile=64),
        lambda: export(model, tmp_path / "out", format="savedmodel", classes=classes, tile=64),
        lambda: ensemble([model]),
    )
    for call in calls:
        with pytest.raises(InputError, match=match):
            call()


def test_outputs_of_another_size_than_the_image_raise(tmp_path):
    model = network(convolution(strides=2))
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    classes = ClassTable(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    calls = (
        lambda: predict_tiled(model, image, tile=64),
        lambda: predict_tiled(ensemble([model]), image, tile=64),
        lambda: evaluate(model, [(image, mask)], classes=classes, protocols=["glnet"], tile=64),
        lambda: export(model, tmp_path / "out", format="savedmodel", classes=classes, tile=64),
    )
    for call in calls:
        with pytest.raises(InputError, match="output of 32x32 pixels.*64x64 pixels"):
            call()
    assert not (tmp_path / "out").exists()
