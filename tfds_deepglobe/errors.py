"""Errors that a user can fix, and the formatting of errors for the command line."""

import errno

# Advice for errors of the operating system.
_REMEDIES = {
    errno.ENOSPC: "Free some disk space, or choose another folder.",
    errno.EDQUOT: "Free some disk space, or choose another folder.",
    errno.EROFS: "Choose another folder.",
    errno.EACCES: "Change the permissions, or choose another path.",
    errno.EPERM: "Change the permissions, or choose another path.",
}


class InputError(ValueError):
    """An error for an input that cannot be used. The message explains how to fix the input.

    In a message, Python arguments are in backticks. A command replaces these arguments with its
    options, prints the message and exits with code 2. Any other exception is a bug, and therefore
    Python prints its traceback.
    """


class UnknownColorError(InputError):
    """An error for a mask with colors that do not belong to any class."""


def error_line(error: Exception) -> str:
    """Formats an error for the command line.

    If the operating system reported the error, the text ends with advice on how to fix it.
    """
    reason = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        remedy = _REMEDIES.get(error.errno or 0, "")
        reason = f"{error.filename}: {error.strerror}. {remedy}".rstrip()
    return f"error: {reason}"
