"""The error for inputs that a user can fix."""


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
