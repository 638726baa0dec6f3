"""Functions that find out if a model segments images, and if its outputs are probabilities."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.models.averaging import WeightedAverage
from lcc_tf.models.preprocessing import bands_of, size_divisor
from lcc_tf.models.resampling import BilinearUpsampling

# If the input of one of these layers is probabilities, the output is probabilities too. Therefore,
# `_output_layer` skips these layers.
_KEEP_PROBABILITIES = (
    BilinearUpsampling,
    keras.layers.Cropping2D,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.UpSampling2D,
)
# Side of the random image in `outputs_probabilities`, pixels
_PROBE_SIDE = 64
_ROUNDING = 0.01  # largest rounding error of a sum of probabilities in half precision
_SOFTMAX = (keras.activations.softmax,)
_SIGMOIDS = (keras.activations.sigmoid, keras.activations.hard_sigmoid)


def check_segmentation_model(model: keras.Model) -> None:
    """Verifies that a model maps images to logits or probabilities of the same size.

    If the model accepts images of different sizes, `check_output_size` verifies the size of its
    predictions later.

    Raises:
        InputError: one of these reasons:

            - The model is neither functional nor sequential.
            - The model has several inputs.
            - The input is not RGB `(batch, height, width, 3)` or images with the `bands` of the
              model.
            - Its first output is not `(batch, height, width, num_classes)` with 2 classes or more.
            - The height or width of its output differs from the height or width of its input.
            - A sigmoid computes its output.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> check_segmentation_model(keras.Model(image, keras.layers.Conv2D(2, 1)(image)))
    """
    if not getattr(model, "outputs", None):
        raise InputError(
            "A model must be functional or sequential, with known inputs and outputs. "
            f"Received: {type(model).__name__}. Build it with `keras.Model(inputs, outputs)`."
        )
    inputs = [tuple(x.shape) for x in model.inputs]
    channels = (len(bands),) if (bands := bands_of(model)) else (3, None)
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][-1] not in channels:
        raise InputError(
            "A model must have one input, RGB images of the shape (batch, height, width, 3). "
            f"Received: the model {model.name!r} with inputs of the shapes {inputs}. Build the "
            "model for RGB images, or with `bands`."
        )
    output = tuple(model.outputs[0].shape)
    if len(output) != 4:
        raise InputError(
            "The output of a model must have the shape (batch, height, width, num_classes). "
            f"Received: the model {model.name!r} with the output shape {output}. Use a network "
            "that predicts a class for each pixel."
        )
    if output[-1] is not None and output[-1] < 2:
        raise InputError(
            "A model must have 2 output channels or more, one per class, because softmax over one "
            f"channel is always 1. Received: the model {model.name!r} with the output shape "
            f"{output}. Use num_classes=2 for a binary task."
        )
    if None not in inputs[0][1:3] + output[1:3]:
        check_output_size(inputs[0], output)
    if _is_activation(_output_layer(model, 0), _SIGMOIDS):
        raise InputError(
            "The output of a model must be logits, or probabilities of a softmax. Received: the "
            f"model {model.name!r}, whose last activation is a sigmoid. Use no activation or "
            "`activation='softmax'` in the last layer."
        )


def check_output_size(images: Sequence[int], outputs: Sequence[int]) -> None:
    """Verifies that predictions have the height and width of the images.

    Args:
        images: shape of the images, `(batch, height, width, 3)`.
        outputs: shape of the predictions, `(batch, height, width, num_classes)`.

    Raises:
        InputError: the sizes differ.

    Example:
        >>> check_output_size((1, 8, 8, 3), (1, 8, 8, 7))
    """
    if tuple(images[1:3]) != tuple(outputs[1:3]):
        raise InputError(
            "The output of a model must have the height and width of its input. Received: an "
            f"output of {outputs[1]}x{outputs[2]} pixels for an input of {images[1]}x{images[2]} "
            "pixels. Upsample the output, for example with `keras.layers.UpSampling2D`."
        )


def outputs_probabilities(model: keras.Model) -> bool:
    """Returns True if a model's first output is probabilities, False if it is logits.

    If the last layer is a softmax, a `WeightedAverage` as in an ensemble, or a convolution without
    activation, this layer decides. Layers that keep probabilities, such as upsampling and cropping,
    are skipped. If the last layer is a nested model, its last layer is used. In all other cases,
    the function calls the model with a random image. The outputs are probabilities if all
    values are in [0, 1] and sum to 1 at each pixel.

    Raises:
        InputError: the values are in [0, 1], but do not sum to 1, as after a sigmoid.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> logits = keras.layers.Conv2D(2, 1)(image)
        >>> outputs_probabilities(keras.Model(image, logits))
        False
        >>> outputs_probabilities(keras.Model(image, keras.layers.Softmax()(logits)))
        True
    """
    layer = _output_layer(model, 0)
    if isinstance(layer, WeightedAverage) or _is_activation(layer, _SOFTMAX):
        return True
    if isinstance(layer, keras.layers.Conv2D) and layer.activation is keras.activations.linear:
        return False
    divisor = size_divisor(model)
    side = math.ceil(_PROBE_SIDE / divisor) * divisor
    shape = [side if known is None else known for known in model.inputs[0].shape[1:3]]
    image = np.random.default_rng(0).uniform(0, 255, (1, *shape, 3)).astype(np.float32)
    values = np.asarray(keras.tree.flatten(model(image, training=False))[0], np.float32)
    if not (values.min() >= 0 and values.max() <= 1 + _ROUNDING):  # also True for NaN
        return False
    if np.abs(values.sum(axis=-1) - 1).max() > _ROUNDING:
        raise InputError(
            "The output of a model must be logits, or probabilities that sum to 1. Received: the "
            f"model {model.name!r}, whose values are in [0, 1] but do not sum to 1, as after a "
            "sigmoid. Use no activation or `activation='softmax'` in the last layer."
        )
    return True


def _output_layer(model: keras.Model, index: int) -> keras.Operation | None:
    """Returns the layer or operation that computes the values of `model.outputs[index]`.

    Layers that keep probabilities are skipped. The result is None if the outputs of a model are
    unknown.
    """
    if not getattr(model, "outputs", None):
        return None
    # The config contains the name of the layer that computes an output. The attribute `output` of
    # the layers is not used, because it is only the output of the first call of a layer.
    single = keras.Model(model.inputs, model.outputs[index])
    name, _, layer_index = keras.tree.flatten(single.get_config()["output_layers"])
    layer = next(operation for operation in single.operations if operation.name == name)
    if isinstance(layer, keras.Model):
        return _output_layer(layer, layer_index)
    if isinstance(layer, _KEEP_PROBABILITIES) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    ):
        return _output_layer(keras.Model(model.inputs, layer.input), 0)
    return layer


def _is_activation(layer: keras.Operation | None, functions: Sequence[Callable]) -> bool:
    """Returns True if a layer or operation computes one of these activation functions."""
    # `keras.ops.softmax` is an operation of the class "Softmax", which is not public. If Keras
    # renames the class, this function returns False for models that end in this operation.
    names = [function.__name__.replace("_", "") for function in functions]
    return getattr(layer, "activation", None) in functions or type(layer).__name__.lower() in names
