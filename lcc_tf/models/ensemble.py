"""One Keras model that averages the probabilities of several."""

from collections.abc import Sequence

import keras

from tfds_deepglobe.errors import InputError


@keras.saving.register_keras_serializable("lcc_tf")
class WeightedAverage(keras.layers.Layer):
    """Weighted mean of several tensors of one shape.

    Args:
        weights: one a tensor, not negative; they are divided by their sum.
    """

    def __init__(self, weights: Sequence[float], **kwargs: object) -> None:
        super().__init__(**kwargs)
        total = sum(weights)
        self.weights_of_members = [weight / total for weight in weights]

    def call(self, tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
        """Averages float `(batch, height, width, num_classes)` tensors."""
        return sum(w * x for w, x in zip(self.weights_of_members, tensors, strict=True))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config() | {"weights": self.weights_of_members}


def ensemble(members: Sequence[keras.Model], weights: Sequence[float] | None = None) -> keras.Model:
    """Builds the model whose probabilities are the weighted mean of its members'.

    Args:
        members: models from float32 images to logits (several outputs: the first counts), all with
            the same number of classes.
        weights: one a member, not negative, not all zero; None for equal ones.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to float32 probabilities
        `(batch, height, width, num_classes)`, which sum to 1 at each pixel. The members are its
        layers `member_0`, `member_1`, ..., their own probabilities are the outputs of the layers
        `member_0_probabilities`, `member_1_probabilities`, ...

    Raises:
        InputError: no members, numbers of classes that differ, weights that can't be used.
    """
    if not members:
        raise InputError("An ensemble needs at least one member. Received none.")
    weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    if len(weights) != len(members) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise InputError(
            f"An ensemble of {len(members)} members needs {len(members)} weights, not negative and "
            f"not all zero. Received: {weights}."
        )
    classes = [model.outputs[0].shape[-1] for model in members]
    if len(set(classes)) > 1:
        raise InputError(f"The members differ in their number of classes: {classes}.")

    inputs = keras.Input((None, None, 3), name="image")
    probabilities = []
    for index, model in enumerate(members):
        name = f"member_{index}"
        logits_model = keras.Model(model.inputs[0], model.outputs[0], name=name)
        probabilities.append(
            keras.layers.Softmax(dtype="float32", name=f"{name}_probabilities")(
                logits_model(inputs)
            )
        )
    mean = WeightedAverage(weights, dtype="float32", name="probabilities")(probabilities)
    return keras.Model(inputs, mean, name="ensemble")
