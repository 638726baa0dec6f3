"""Ensembles: one Keras model that averages the probabilities of several models."""

from collections.abc import Sequence

import keras

from lcc_tf.errors import InputError
from lcc_tf.models.averaging import AVERAGES, WeightedAverage, check_member_weights
from lcc_tf.models.model_outputs import check_functional, outputs_probabilities
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.models.resampling import ScaleImage, UnscaleProbabilities


def ensemble(
    members: Sequence[keras.Model],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
    scales: Sequence[float] | None = None,
) -> keras.Model:
    """Builds a model that returns the weighted mean of its members' probabilities.

    The members are the layers `member_0`, `member_1`, ... of the ensemble. The layers
    `member_0_probabilities`, `member_1_probabilities`, ... return their probabilities, at the
    member's scale and with the padding that its stride needs.

    Args:
        members: models from float32 images to logits or to probabilities, all with the same number
            of classes. An ensemble can be a member. Only the first output of a member is used;
            `outputs_probabilities` tells whether it is probabilities.
        weights: one weight per member, 0 or more, at least one above 0; None for equal weights.
        average: "probabilities" or "logits"; see `lcc_tf.models.averaging.weighted_average`.
        scales: one scale per member; None for 1. With 0.5 a member predicts from the image at half
            its height and width, and its probabilities are upsampled to the image's size.

    Returns:
        A model from float32 `(batch, height, width, 3)`, RGB in [0, 255], to float32 probabilities
        `(batch, height, width, num_classes)` in [0, 1]; the sum over the classes is 1. Height and
        width must be divisible by the largest `size_divisor` of the members.

    Raises:
        InputError: no members; members with different numbers of classes; invalid `weights`,
            `average` or `scales`; a member that is neither functional nor sequential.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus
        >>> options = {"encoder": "resnet18_v1.5", "encoder_weights": None}
        >>> members = [UNetPlusPlus(7, **options) for _ in range(2)]
        >>> model = ensemble(members, weights=[2, 1])
        >>> model.output_shape
        (None, None, None, 7)
    """
    if not members:
        raise InputError(
            "An ensemble needs at least one member. Received: members=[]. Add a model."
        )
    weights = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    check_member_weights(weights, len(members))
    if average not in AVERAGES:
        raise InputError(
            f"Unknown `average`. Received: average={average!r}. Choose one of {AVERAGES}."
        )
    scales = [1.0] * len(members) if scales is None else [float(scale) for scale in scales]
    if len(scales) != len(members) or not all(0 < scale < float("inf") for scale in scales):
        raise InputError(
            f"An ensemble of {len(members)} members needs {len(members)} `scales` above 0. "
            f"Received: scales={scales}."
        )
    for model in members:
        check_functional(model)
    classes = [model.outputs[0].shape[-1] for model in members]
    if len(set(classes)) > 1:
        raise InputError(
            "All members must have the same number of classes. "
            f"Received members with {classes} classes."
        )

    image = keras.Input((None, None, 3), name="image")
    probabilities: list[keras.KerasTensor] = []
    variables: set[int] = set()
    for index, (model, scale) in enumerate(zip(members, scales, strict=True)):
        if not variables.isdisjoint(map(id, model.weights)):
            # Keras saves a layer that two members share only once. After loading, the second
            # member would have random weights.
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            model = copy
        variables.update(map(id, model.weights))
        name = f"member_{index}"
        member = keras.Model(model.inputs[0], model.outputs[0], name=name)
        # A softmax of probabilities would bring all of them close to 1 / num_classes.
        function = "linear" if outputs_probabilities(model) else "softmax"
        activation = keras.layers.Activation(
            function, dtype="float32", name=f"{name}_probabilities"
        )
        if scale == 1:
            probabilities.append(activation(member(image)))
            continue
        resize = ScaleImage(scale, size_divisor(model), dtype="float32", name=f"{name}_image")
        restore = UnscaleProbabilities(scale, dtype="float32", name=f"{name}_unscaled")
        probabilities.append(restore(activation(member(resize(image))), image))
    mean = WeightedAverage(weights, average, dtype="float32", name="probabilities")(probabilities)
    return keras.Model(image, mean, name="ensemble")
