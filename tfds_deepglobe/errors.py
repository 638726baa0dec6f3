"""Errors that a user can fix, and their text on the command line."""

import errno

_REMEDIES = {
    errno.ENOSPC: "Make room, or choose another place.",
    errno.EDQUOT: "Make room, or choose another place.",
    errno.EROFS: "Choose another place.",
    errno.EACCES: "Give this user the right to it, or choose another place.",
    errno.EPERM: "Give this user the right to it, or choose another place.",
}


class InputError(ValueError):
    """An input cannot be used. The message explains how to fix it.

    A message names Python arguments in backticks, and command lines replace them by options.
    Command lines print the message and exit with code 2. Any other exception is a defect and keeps
    its traceback.
    """


class UnknownColorError(InputError):
    """A mask contains colors that no class has."""


def error_line(error: Exception) -> str:
    """Formats an error for the command line, with a remedy if the system reported the error."""
    reason = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        remedy = _REMEDIES.get(error.errno or 0, "")
        reason = f"{error.filename}: {error.strerror}. {remedy}".rstrip()
    return f"error: {reason}"
