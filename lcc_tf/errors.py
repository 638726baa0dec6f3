"""The error for inputs that a user can fix, and for optional packages that are missing."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec


class InputError(ValueError):
    """An input cannot be used; the message says what was received and how to fix it.

    The commands print the message as one line and exit with code 2. A message names Python
    arguments in backticks (`` `batch_size=7` ``), and the commands print the matching option
    (`` `--batch-size 7` ``). Any other exception is a defect and keeps its traceback.

    The data set package `tfds_deepglobe` imports nothing of `lcc_tf` and raises its own
    `tfds_deepglobe.errors.InputError`. Both are `ValueError`s.

    Example:
        >>> raise InputError("`tile` must be 32 or more. Received: tile=8.")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `tile` must be 32 or more. Received: tile=8.
    """


@contextlib.contextmanager
def requires(extra: str, purpose: str, *packages: str) -> Iterator[None]:
    """Turns the failed import of an optional package into one clear error.

    Args:
        extra: the extra of lcc_tf that installs the packages, such as "export".
        purpose: what needs them, at the start of the message.
        packages: names of the packages that are imported inside the `with` block.

    Raises:
        InputError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = [name for name in packages if find_spec(name.replace("-", "_")) is None]
        if not missing:  # a package is installed, but broken
            raise
        *others, last = missing
        names = f"{', '.join(others)} and {last}" if others else last
        raise InputError(
            f"{purpose} needs {names}, which {'are' if others else 'is'} not installed. "
            f"Run: pip install 'lcc_tf[{extra}]'"
        ) from error
