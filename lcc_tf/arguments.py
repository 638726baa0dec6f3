"""Checks of arguments that several public functions share."""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lcc_tf.errors import InputError

# Descriptions of types in error messages
_TYPE_NAMES = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a text",
    tuple[float, float]: "a tuple of two finite numbers",
    NoneType: "None",
    Path: "a path",
    Sequence[str]: "a list of texts",
    Sequence[int]: "a list of whole numbers",
    Sequence[float]: "a list of finite numbers",
}


def check_num_classes(num_classes: int) -> int:
    """Verifies the number of classes of a network or a metric.

    Returns:
        `num_classes` as a Python int.

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
        `ignore_class` as a Python int, or None.

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


def check_types(values: object) -> None:
    """Verifies that the fields of a dataclass have the types in its annotations.

    Numbers must be finite.

    Args:
        values: an instance of a dataclass. Its annotations can be `str`, `bool`, `int`, `float`,
            None, classes, and unions and tuples of these types.

    Raises:
        InputError: the type of a field does not match its annotation.

    Example:
        >>> import lcc_tf.config
        >>> lcc_tf.config.DataConfig(demo_count="many")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `demo_count` must be a whole number. Received: 'many'.
    """
    for name, hint in get_type_hints(type(values)).items():
        _check_type(name, getattr(values, name), hint)


def check_arguments(
    function: Callable, values: Mapping[str, object], unchecked: Collection[str] = ()
) -> None:
    """Verifies that the arguments of a function have the types in its annotations.

    Args:
        function: the function.
        values: values of the arguments, such as `locals()`. Key: name of an argument.
        unchecked: names of arguments to skip.

    Raises:
        InputError: the type of an argument does not match its annotation.

    Example:
        >>> check_arguments(check_num_classes, {"num_classes": "many"})
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `num_classes` must be a whole number. Received: 'many'.
    """
    for name, hint in get_type_hints(function).items():
        if name not in unchecked and name != "return":
            _check_type(name, values[name], hint)


def _check_type(name: str, value: object, hint: Any) -> None:
    if not _matches(value, hint):
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        text = " or ".join(_TYPE_NAMES.get(option, str(option)) for option in options)
        raise InputError(f"`{name}` must be {text}. Received: {repr(value)[:100]}.")


def _matches(value: object, hint: Any) -> bool:
    """Returns True if a value has the type of an annotation."""
    options = get_args(hint)
    if get_origin(hint) is Sequence:
        is_array = getattr(value, "ndim", 0) == 1
        is_sequence = (
            is_array or isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        )
        return is_sequence and all(_matches(item, options[0]) for item in value)
    if isinstance(hint, UnionType):
        return any(_matches(value, option) for option in options)
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        if options[-1] is Ellipsis:
            return all(_matches(item, options[0]) for item in value)
        return len(value) == len(options) and all(map(_matches, value, options))
    if hint is int:
        return _is_int(value)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    if hint is bool:
        return type(value).__name__ in ("bool", "bool_")  # of Python or NumPy
    if hint is Path:
        return isinstance(value, os.PathLike)
    return isinstance(value, hint or NoneType)


def _is_finite(number: Real) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that is too large for a float
        return False


def _is_int(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
