"""One Keras model that averages the probabilities of several."""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models.blocks import BilinearUpsampling
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.reflect_padding import reflect_padded_indices

AVERAGES = ("probabilities", "logits")
# Below the smallest probability that a float32 softmax gives with logits of a sane size.
_TINY = 1e-30


def weighted_average(
    probabilities: Sequence[tf.Tensor], weights: Sequence[float], average: str = "probabilities"
) -> tf.Tensor:
    """Averages the probabilities of several models.

    Args:
        probabilities: float32 `(..., num_classes)`, one tensor per model.
        weights: one weight per model, not negative, not all zero; they are divided by their sum.
        average: "probabilities": their weighted mean; "logits": the softmax of the weighted mean of
            their logarithms, which are the models' logits but for a constant at each pixel.

    Returns:
        float32 `(..., num_classes)`, which sum to 1.
    """
    shares = [weight / sum(weights) for weight in weights]
    if average == "logits":
        probabilities = [tf.math.log(tf.maximum(p, _TINY)) for p in probabilities]
    # Two by two: LiteRT has no 8-bit sum of several tensors at once, as `tf.add_n` is.
    terms = [tf.multiply(p, share) for share, p in zip(shares, probabilities, strict=True)]
    mean = functools.reduce(tf.add, terms)
    return tf.nn.softmax(mean) if average == "logits" else mean


def check_member_weights(weights: Sequence[float], num_members: int) -> None:
    """Checks the weights of an ensemble's members.

    Raises:
        InputError: too few or too many weights, a negative weight, or all are zero.
    """
    if len(weights) != num_members or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise InputError(
            f"An ensemble of {num_members} members needs {num_members} weights, not negative and "
            f"not all zero. Received: {weights}."
        )


@keras.saving.register_keras_serializable("lcc_tf")
class WeightedAverage(keras.layers.Layer):
    """`weighted_average` as a layer.

    Args:
        weights: one weight per tensor, not negative.
        average: "probabilities" or "logits".
    """

    def __init__(
        self, weights: Sequence[float], average: str = "probabilities", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.weights_of_members = [float(weight) for weight in weights]
        self.average = average

    def call(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Averages float `(batch, height, width, num_classes)` tensors."""
        return weighted_average(tensors, self.weights_of_members, self.average)

    def compute_output_shape(self, shapes: list[tuple]) -> tuple:
        """Returns the shape of each tensor."""
        return shapes[0]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "weights": self.weights_of_members,
            "average": self.average,
        }


def _scaled(size: tf.Tensor, scale: float) -> tf.Tensor:
    """Height and width, int32 `(2,)`, times `scale`."""
    scaled = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
    return tf.maximum(scaled, 1)


@keras.saving.register_keras_serializable("lcc_tf")
class ScaleImage(keras.layers.Layer):
    """Resizes images bilinearly, then reflect-pads them to a size that a network accepts.

    Args:
        scale: how many times higher and wider they become.
        size_divisor: height and width of the result are divisible by it.
    """

    def __init__(self, scale: float, size_divisor: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.size_divisor = size_divisor

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes float `(batch, height, width, channels)`."""
        size = _scaled(tf.shape(image)[1:3], self.scale)
        image = tf.image.resize(image, size, method="bilinear")
        for axis in (1, 2):
            indices = reflect_padded_indices(size[axis - 1], self.size_divisor)
            image = tf.gather(image, indices, axis=axis)
        return image

    def compute_output_shape(self, shape: tuple) -> tuple:
        """Height and width are known when an image is."""
        return (shape[0], None, None, shape[3])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale, "size_divisor": self.size_divisor}


@keras.saving.register_keras_serializable("lcc_tf")
class UnscaleProbabilities(keras.layers.Layer):
    """Resizes probabilities for the result of `ScaleImage` back to the image's size.

    Args:
        scale: the scale of `ScaleImage`.
    """

    def __init__(self, scale: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, probabilities: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        """Crops the padding and resizes to the size of `image` bilinearly."""
        size = tf.shape(image)[1:3]
        height, width = tf.unstack(_scaled(size, self.scale))
        return tf.image.resize(probabilities[:, :height, :width], size, method="bilinear")

    def compute_output_shape(self, probabilities_shape: tuple, image_shape: tuple) -> tuple:
        """Height and width of the image, channels of the probabilities."""
        return (*image_shape[:3], probabilities_shape[3])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale}


# Layers whose output is probabilities if their input is
_KEEP_PROBABILITIES = (
    BilinearUpsampling,
    keras.layers.Cropping2D,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.UpSampling2D,
)


def check_functional(model: keras.Model) -> None:
    """Checks that a model's outputs are known.

    Raises:
        InputError: a subclass of `keras.Model` that is neither functional nor sequential.
    """
    if not getattr(model, "outputs", None):
        raise InputError(
            "A model must be functional or sequential, with known inputs and outputs. "
            f"Received: {type(model).__name__}. Build it with `keras.Model(inputs, outputs)`."
        )


def outputs_probabilities(model: keras.Model) -> bool:
    """Returns whether a model's first output is probabilities already, and not logits.

    True if the layer that computes it is a `WeightedAverage` (as in an ensemble), a softmax layer,
    or any layer with the activation softmax. Models inside the model are searched, and layers that
    keep probabilities, such as upsampling, cropping and linear activations, are passed over.

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
    """Returns whether softmax computes the model's output with that index."""
    if not getattr(model, "outputs", None):
        return False
    # The config names the layer of an output, its use and its output's index. `layer.output` would
    # not do: of a layer that is used several times, it is the output of the first use.
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
        or type(layer).__name__ == "Softmax"  # `keras.ops.softmax`, whose class is not public
    )


def ensemble(
    members: Sequence[keras.Model],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
    scales: Sequence[float] | None = None,
) -> keras.Model:
    """Builds the model whose probabilities are the weighted mean of its members'.

    Args:
        members: models from float32 images to logits or to probabilities, such as ensembles (see
            `outputs_probabilities`), all with the same number of classes. Of several outputs, the
            first one counts.
        weights: one weight per member, not negative, not all zero; None for equal weights.
        average: "probabilities" or "logits", see `weighted_average`.
        scales: the resolution of each member, as a fraction of the image's. With 0.5 the member
            predicts from the image at half its height and width, and its probabilities are
            upsampled to match. None for 1 each, the image unchanged.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to float32 probabilities
        `(batch, height, width, num_classes)`, which sum to 1 at each pixel. The members are its
        layers `member_0`, `member_1`, ... The probabilities of each member are the outputs of the
        layers `member_0_probabilities`, `member_1_probabilities`, ..., at the scale of the member
        and with the reflect-padded pixels that its stride needs. Height and width must be divisible
        by the largest `lcc_tf.models.preprocessing.size_divisor` of the members.

    Raises:
        InputError: no members, different numbers of classes; weights, an average or scales that
            can't be used.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus
        >>> options = {"encoder": "resnet18_v1.5", "encoder_weights": None}
        >>> members = [UNetPlusPlus(7, **options) for _ in range(2)]
        >>> model = ensemble(members, weights=[2, 1])
        >>> model.output_shape
        (None, None, None, 7)
    """
    if not members:
        raise InputError("An ensemble needs at least one member. Received none.")
    weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    check_member_weights(weights, len(members))
    if average not in AVERAGES:
        raise InputError(f"Unknown average. Received: {average!r}. Choose one of {AVERAGES}.")
    scales = [1.0] * len(members) if scales is None else [float(scale) for scale in scales]
    if len(scales) != len(members) or not all(0 < scale < float("inf") for scale in scales):
        raise InputError(
            f"An ensemble of {len(members)} members needs {len(members)} scales larger than 0. "
            f"Received: {scales}."
        )
    for model in members:
        check_functional(model)
    classes = [model.outputs[0].shape[-1] for model in members]
    if len(set(classes)) > 1:
        raise InputError(f"The members differ in their number of classes: {classes}.")

    image = keras.Input((None, None, 3), name="image")
    probabilities: list[keras.KerasTensor] = []
    variables: set[int] = set()
    for index, (model, scale) in enumerate(zip(members, scales, strict=True)):
        if not variables.isdisjoint(map(id, model.weights)):
            # Keras saves layers that two members share once only. Of the loaded model, the second
            # member would keep random weights.
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            model = copy
        variables.update(map(id, model.weights))
        name = f"member_{index}"
        member = keras.Model(model.inputs[0], model.outputs[0], name=name)
        # Probabilities get no second softmax: it would bring all of them close to 1 / num_classes.
        function = "linear" if outputs_probabilities(model) else "softmax"
        activation = keras.layers.Activation(
            function, dtype="float32", name=f"{name}_probabilities"
        )
        if scale == 1:
            probabilities.append(activation(member(image)))
            continue
        seen = ScaleImage(scale, size_divisor(model), dtype="float32", name=f"{name}_image")(image)
        restored = UnscaleProbabilities(scale, dtype="float32", name=f"{name}_unscaled")
        probabilities.append(restored(activation(member(seen)), image))
    mean = WeightedAverage(weights, average, dtype="float32", name="probabilities")(probabilities)
    return keras.Model(image, mean, name="ensemble")
