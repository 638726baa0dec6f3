"""Check of weights for values that are not finite."""

from collections.abc import Iterable

import numpy as np

from lcc_tf.errors import InputError


def check_finite(arrays: Iterable[tuple[str, np.ndarray]], source: str) -> None:
    """Verifies that weights contain no NaN and no infinite values.

    A network with such weights predicts NaN for all classes, and the argmax of NaN is class 0.

    Args:
        arrays: names and values of the weights.
        source: description of the origin of the weights, for the error message.

    Raises:
        InputError: an array contains a value that is not finite.

    Example:
        >>> check_finite([("bias", np.array([1.0, np.nan]))], "a.weights.h5")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: a.weights.h5 must contain finite weights only. Received: NaN or...
    """
    faulty = [name for name, array in arrays if not np.isfinite(array).all()]
    if faulty:
        more = f" and {len(faulty) - 1} more arrays" if len(faulty) > 1 else ""
        raise InputError(
            f"{source} must contain finite weights only. Received: NaN or infinite values in "
            f"{faulty[0]}{more}. The training has diverged, or the file is damaged. Use other "
            "weights."
        )
