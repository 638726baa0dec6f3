"""Checks of a model: are its outputs known, and are they logits or probabilities?"""

import keras

from lcc_tf.errors import InputError
from lcc_tf.models.averaging import WeightedAverage
from lcc_tf.models.resampling import BilinearUpsampling

# If the inputs of these layers are probabilities, their outputs are probabilities too.
_KEEP_PROBABILITIES = (
    BilinearUpsampling,
    keras.layers.Cropping2D,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.UpSampling2D,
)


def check_functional(model: keras.Model) -> None:
    """Verifies that the outputs of a model are known before the first call of the model.

    Raises:
        InputError: the model is neither functional nor sequential.
    """
    if not getattr(model, "outputs", None):
        raise InputError(
            "A model must be functional or sequential, with known inputs and outputs. "
            f"Received: {type(model).__name__}. Build it with `keras.Model(inputs, outputs)`."
        )


def outputs_probabilities(model: keras.Model) -> bool:
    """Returns True if a model's first output is probabilities, False if it is logits.

    The result is True if one of these layers computes the output:

    - a `WeightedAverage`, as in an ensemble,
    - a softmax layer or `keras.ops.softmax`,
    - any other layer with a softmax activation.

    The function also searches nested models. After the softmax, the model may have layers whose
    outputs are still probabilities, such as upsampling, cropping and linear activations.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> logits = keras.layers.Conv2D(2, 1)(image)
        >>> outputs_probabilities(keras.Model(image, logits))
        False
        >>> outputs_probabilities(keras.Model(image, keras.layers.Softmax()(logits)))
        True
    """
    return _is_softmax_output(model, 0)


def _is_softmax_output(model: keras.Model, index: int) -> bool:
    """Returns True if a softmax computes the output `model.outputs[index]`."""
    if not getattr(model, "outputs", None):
        return False
    # The config contains the name of the layer that computes an output. A search for the layer
    # whose attribute `output` is this output would fail for a layer with several calls, because the
    # attribute is the output of the first call.
    single = keras.Model(model.inputs, model.outputs[index])
    name, _, layer_index = keras.tree.flatten(single.get_config()["output_layers"])
    layer = next(operation for operation in single.operations if operation.name == name)
    if isinstance(layer, keras.Model):
        return _is_softmax_output(layer, layer_index)
    if isinstance(layer, _KEEP_PROBABILITIES) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    ):
        return _is_softmax_output(keras.Model(model.inputs, layer.input), 0)
    return (
        isinstance(layer, (WeightedAverage, keras.layers.Softmax))
        or getattr(layer, "activation", None) is keras.activations.softmax
        # The operation of `keras.ops.softmax`, whose class is not public. If Keras renames the
        # class, this function returns False for models that end in this operation.
        or type(layer).__name__ == "Softmax"
    )
