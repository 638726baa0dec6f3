"""The errors that a user can mend, and how they are said."""

import errno

_REMEDIES = {
    errno.ENOSPC: "Make room, or choose another place.",
    errno.EDQUOT: "Make room, or choose another place.",
    errno.EROFS: "Choose another place.",
    errno.EACCES: "Give this user the right to it, or choose another place.",
    errno.EPERM: "Give this user the right to it, or choose another place.",
}


class InputError(ValueError):
    """What the user gave cannot be used; the message says how to mend it.

    Command lines print its message as one line and exit with code 2. Every other exception is a
    defect and keeps its traceback.
    """


class UnknownColorError(InputError):
    """A mask holds colours that no class has."""


def error_line(error: Exception) -> str:
    """What a command line prints of an error: one line, with a way out where there is one."""
    reason = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        remedy = _REMEDIES.get(error.errno or 0, "")
        reason = f"{error.filename}: {error.strerror}. {remedy}".rstrip()
    return f"error: {reason}"
