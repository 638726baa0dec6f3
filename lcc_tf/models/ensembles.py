"""Ensembles: one Keras model that averages the probabilities of several models, its members."""

from collections.abc import Collection, Mapping, Sequence, Set

import keras
import numpy as np

from lcc_tf.arguments import number_per
from lcc_tf.bands import check_equal_bands
from lcc_tf.errors import InputError
from lcc_tf.models.averaging import AVERAGES, WeightedAverage, check_member_weights
from lcc_tf.models.model_outputs import check_segmentation_model, outputs_probabilities
from lcc_tf.models.preprocessing import bands_of, size_divisor
from lcc_tf.models.resampling import ScaleImage, UnscaleProbabilities


def ensemble(
    members: Sequence[keras.Model],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
    scales: Sequence[float] | None = None,
) -> keras.Model:
    """Builds a model that returns the weighted mean of its members' probabilities.

    Each member is a layer of the ensemble: `member_0`, `member_1`, ... The layers
    `member_0_probabilities`, `member_1_probabilities`, ... return the probabilities of the members.
    If `scales` resizes the image for a member, the resized image is also padded, because its sides
    must be divisible by the stride of the member. The probabilities of this member then have the
    size of the padded image.

    Args:
        members: models that return logits or probabilities for float32 images. All members must
            have the same number of classes. A member can be an ensemble. Only the first output of
            each member is used. The function `outputs_probabilities` detects whether this output
            is logits or probabilities.
        weights: one weight per member. Each weight is 0 or more, and at least one is above 0. None
            for equal weights.
        average: "probabilities" or "logits"; see `lcc_tf.models.averaging.weighted_average`.
        scales: one scale per member; None for a scale of 1. A member with scale 0.5 predicts from
            an image with half of the height and width. Then its probabilities are upsampled to the
            size of the full image.

    Returns:
        A model that maps images, float32 `(batch, height, width, 3)`, RGB in [0, 255], to
        probabilities, float32 `(batch, height, width, num_classes)` in [0, 1]. The sum of the
        probabilities over the classes is 1. Image height and width must be divisible by the largest
        `size_divisor` of the members.

    Raises:
        InputError: `members` is not a list, or is empty; the members have different numbers of
            classes or different bands; `weights`, `average` or `scales` is invalid; members with
            the same scale require different image sizes; or a member is invalid, see
            `check_segmentation_model`.

    Example:
        >>> from lcc_tf.models import UNetPlusPlus
        >>> options = {"encoder": "resnet18_v1.5", "encoder_weights": None}
        >>> members = [UNetPlusPlus(7, **options) for _ in range(2)]
        >>> model = ensemble(members, weights=[2, 1])
        >>> model.output_shape
        (None, None, None, 7)
    """
    is_list = isinstance(members, Collection) and not isinstance(members, (str, Mapping, Set))
    if not is_list or (isinstance(members, np.ndarray) and members.ndim != 1):
        raise InputError(
            f"`members` must be a list of models. Received: {type(members).__name__}. Use a list "
            "such as [first, second]."
        )
    members = list(members)
    if not members:
        raise InputError(
            "An ensemble needs at least one member. Received: members=[]. Add a model."
        )
    weights = check_member_weights(weights, len(members))
    if average not in AVERAGES:
        raise InputError(
            f"Unknown `average`. Received: average={average!r}. Choose one of {AVERAGES}."
        )
    scales = (1.0,) * len(members) if scales is None else number_per("member", scales, "scales")
    if len(scales) != len(members) or not all(0 < scale < float("inf") for scale in scales):
        raise InputError(
            f"An ensemble of {len(members)} members needs {len(members)} `scales` above 0. "
            f"Received: scales={scales}."
        )
    for model in members:
        check_segmentation_model(model)
    classes = [model.outputs[0].shape[-1] for model in members]
    if len(set(classes)) > 1:
        raise InputError(
            "All members must have the same number of classes. "
            f"Received members with {classes} classes."
        )
    _check_input_sizes(members, scales)
    check_equal_bands([bands_of(model) for model in members])

    image = keras.Input((None, None, members[0].inputs[0].shape[-1]), name="image")
    probabilities: list[keras.KerasTensor] = []
    variables: set[int] = set()
    for index, (model, scale) in enumerate(zip(members, scales, strict=True)):
        if not variables.isdisjoint(map(id, model.weights)):
            # This member and an earlier member have common layers. Keras would save these layers
            # only once. After loading, this member would have random weights. Therefore, copy the
            # member.
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            model = copy
        variables.update(map(id, model.weights))
        name = f"member_{index}"
        member = keras.Model(model.inputs[0], model.outputs[0], name=name)
        # Do not apply softmax to probabilities: the results would all be close to 1 / num_classes.
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


def _check_input_sizes(members: Sequence[keras.Model], scales: Sequence[float]) -> None:
    """Verifies that members with the same scale accept images of the same size."""
    sizes = [tuple(model.inputs[0].shape[1:3]) for model in members]
    for scale in set(scales):
        same_scale = [size for size, other in zip(sizes, scales, strict=True) if other == scale]
        if any(len(set(sides) - {None}) > 1 for sides in zip(*same_scale, strict=True)):
            raise InputError(
                "Members with the same scale must accept images of the same size. Received: "
                f"members with the input sizes {sizes}. Build the members with "
                "`input_shape=None`, or set `scales`."
            )
