"""Checks of arguments that several public functions share."""

from collections.abc import Mapping, Sequence, Set
from numbers import Integral

from lcc_tf.errors import InputError


def check_num_classes(num_classes: int) -> int:
    """Verifies the number of classes of a network or a metric.

    Returns:
        `num_classes` as an int of Python.

    Raises:
        InputError: `num_classes` is below 2, or is not an int.

    Example:
        >>> check_num_classes(7)
        7
    """
    if not _is_int(num_classes) or num_classes < 2:
        raise InputError(
            "`num_classes` must be a whole number of at least 2, because a network returns one "
            f"logit per class for a softmax. Received: num_classes={num_classes!r}. "
            "Use num_classes=2 for a binary task."
        )
    return int(num_classes)


def check_ignore_class(ignore_class: int | None) -> int | None:
    """Verifies the label of void pixels.

    Returns:
        `ignore_class` as an int of Python, or None.

    Raises:
        InputError: `ignore_class` is neither an int nor None.

    Example:
        >>> check_ignore_class(255)
        255
    """
    if ignore_class is None:
        return None
    if not _is_int(ignore_class):
        raise InputError(
            "`ignore_class` must be a label, a whole number such as 255, or None. "
            f"Received: ignore_class={ignore_class!r}."
        )
    return int(ignore_class)


def number_per(item: str, numbers: Sequence[float], argument: str) -> tuple[float, ...]:
    """Verifies an argument with one number per item, and returns the numbers.

    A dictionary is invalid, because a loop over a dictionary returns its keys.

    Args:
        item: "class" or "member".
        numbers: value of the argument.
        argument: name of the argument, for the error message.

    Raises:
        InputError: `numbers` is not a sequence of numbers.

    Example:
        >>> number_per("class", [1, 2], "class_weights")
        (1.0, 2.0)
    """
    try:
        if isinstance(numbers, (str, bytes, Mapping, Set)):
            raise TypeError
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        raise InputError(
            f"`{argument}` must be a sequence with one number per {item}. "
            f"Received: {argument}={numbers!r}. Use a list such as [1.0, 2.0]."
        ) from None


def _is_int(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
