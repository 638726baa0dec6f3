"""Errors that a user can fix, and the formatting of errors for the command line."""

import errno
import io
import sys
from collections.abc import Collection, Mapping, Sequence

_MAX_COLORS = 5  # colors in a message

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

    In a message, Python arguments are in backticks. A command replaces, for example, `data` with
    `--data`, prints the message and exits with code 2. Any other exception is a bug, and therefore
    Python prints its traceback.
    """


class NotPreparedError(InputError):
    """An error for a data set that was not prepared."""


class UnsupportedBandsError(InputError):
    """An error for an image with a dtype, a shape or a number of bands that is not supported."""


class FileFaultsError(InputError):
    """An error for faulty files. The message has one line per fault.

    Args:
        faults: pairs of a file name and an error.
    """

    def __init__(self, *faults: tuple[str, InputError]) -> None:
        super().__init__("\n".join(f"{name}: {error}" for name, error in faults))
        self.faults = faults


class UnknownColorError(InputError):
    """An error for a mask with colors that do not belong to any class.

    Args:
        counts: number of pixels of each of these colors, RGB in [0, 255], the most frequent first.
    """

    def __init__(self, counts: Mapping[tuple[int, int, int], int]) -> None:
        texts = [
            f"{count} pixel{'s' * (count != 1)} of {color}" for color, count in counts.items()
        ][:_MAX_COLORS]
        more = f" and {len(counts) - _MAX_COLORS} more colors" * (len(counts) > _MAX_COLORS)
        example = ",".join(map(str, next(iter(counts))))
        super().__init__(
            f"{', '.join(texts)}{more} do not belong to any class; "
            f"to assign a class to a color, use `map_color={example}=CLASS`"
        )
        self.counts = counts


class OtherPaletteError(InputError):
    """An error for a mask whose colors are far from the colors of the class table.

    Args:
        message: text of the error.
        colors: colors of the mask, RGB in [0, 255].
    """

    def __init__(self, message: str, colors: Collection[tuple[int, int, int]]) -> None:
        super().__init__(message)
        self.colors = colors


def escape_unknown_characters() -> None:
    """Prints characters as escapes if the encoding of the terminal does not contain them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def error_line(error: Exception) -> str:
    """Formats an error for the command line.

    If the operating system reported the error, the text ends with advice on how to fix it.
    """
    reason = str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0, "")
        reason = f"{place}{error.strerror}. {remedy}".rstrip()
    return f"error: {reason}"


def shorten(text: str, limit: int = 300) -> str:
    r"""Formats a text for a message as one line. In a long text, "..." replaces the middle.

    File names can contain line breaks, and bytes that are not text. Such characters are escaped.

    Example:
        >>> shorten("abcdefghijklmnopqrstuvwxyz", 13)
        'abcdef...xyz'
        >>> print(shorten("two\nlines"))
        two\nlines
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}...{text[len(text) - limit // 4 :]}"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """Returns the first `limit` names, and the number of the remaining names.

    Example:
        >>> listed(["a.png", "b.png", "c.png"], 2)
        'a.png, b.png and 1 more'
    """
    more = f" and {len(names) - limit} more" * (len(names) > limit)
    return ", ".join(shorten(name, 80) for name in names[:limit]) + more
