"""Check and hash of the weights of a model."""

import hashlib
import json
from collections.abc import Iterable

import keras
import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.models.layers import all_layers


def check_finite(arrays: Iterable[tuple[str, np.ndarray]], source: str) -> None:
    """Verifies that weights are finite numbers, and that no variance is negative.

    If a weight is not finite or a variance is negative, a network can predict NaN for all classes.
    The argmax of NaN is class 0, which looks like a valid prediction.

    Args:
        arrays: names and values of the weights.
        source: description of the origin of the weights, for the error message.

    Raises:
        InputError: an array contains a value that is not finite, or a negative variance.

    Example:
        >>> check_finite([("bias", np.array([1.0, np.nan]))], "a.weights.h5")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: a.weights.h5 must contain finite weights only. Received: NaN or...
    """
    faults: dict[str, list[str]] = {"NaN or infinite values": [], "negative variances": []}
    for name, array in arrays:
        if not np.isfinite(array).all():
            faults["NaN or infinite values"].append(name)
        elif name.endswith(("running_var", "moving_variance")) and np.min(array) < 0:
            faults["negative variances"].append(name)
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - 1} more arrays" if len(names) > 1 else ""
            raise InputError(
                f"{source} must contain finite weights only. Received: {fault} in "
                f"{names[0]}{more}. The training has diverged, or the file is damaged. Use other "
                "weights."
            )


def model_hash(model: keras.Model) -> str:
    """Hashes the weights of a model and the settings of its layers.

    The settings can change the output too. For example, the settings of `WeightedAverage` contain
    one weight per member of an ensemble. The names are not hashed, because Keras numbers the names
    of layers in the order of creation.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> before = model_hash(model)
        >>> _ = model.layers[0].bias.assign([1.0])
        >>> model_hash(model) == before
        False
    """
    content = hashlib.blake2b(digest_size=16)
    for layer in all_layers(model):
        content.update(f"{type(layer).__name__} {_settings(layer)}".encode())
    for weight in model.weights:
        content.update(f"{weight.shape} {weight.dtype}".encode())
        content.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return content.hexdigest()


def _settings(layer: keras.Layer) -> str:
    """Returns the settings of a layer without its name, as text; `""` if they are unknown."""
    if isinstance(layer, keras.Model):
        return ""  # `all_layers` also contains the layers of this model
    try:
        settings = layer.get_config()
    except NotImplementedError:  # a layer of the user without `get_config`
        return ""
    settings = {name: value for name, value in settings.items() if name != "name"}
    return json.dumps(settings, skipkeys=True, default=lambda value: type(value).__name__)
