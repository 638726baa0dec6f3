"""Options, exit codes and error messages that the commands share.

Commands answer `--help` and wrong options without TensorFlow, whose import takes seconds. So a
parser imports choices and defaults from modules without TensorFlow, such as `lcc_tf.config`. It
repeats the others, and tests/cli/test_defaults.py compares them with the library.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lcc_tf.errors import InputError
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.errors import error_line

# The common type of parsers and groups has no public name in argparse. It is used in annotations
# only. If argparse renames it, importing this module fails.
OptionGroup = argparse._ActionsContainer


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as cleanly as Ctrl-C does."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def run(
    command: Callable[[argparse.Namespace], int | None],
    options: argparse.ArgumentParser,
    *,
    when_interrupted: str,
) -> NoReturn:
    """Parses the command line, runs a command and ends the process.

    An error that the user can fix is printed as one line. A defect keeps its traceback.

    Args:
        command: function from the parsed options to the exit code; None counts as 0.
        options: the command's parser.
        when_interrupted: text to print after Ctrl-C or SIGTERM.

    Raises:
        SystemExit: always, with the command's exit code, or 2 for an input that cannot be used, 130
            after Ctrl-C and 143 after SIGTERM.
    """
    # TensorFlow and Keras read these variables when a command imports them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    signal.signal(signal.SIGTERM, _terminate)
    arguments = options.parse_args()
    try:
        code = command(arguments)
    except (InputError, DatasetError, OSError) as error:
        print(in_options(error_line(error), options), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        terminated = isinstance(interruption, Terminated)
        word = "terminated" if terminated else "interrupted"
        print(f"\n{word}; {when_interrupted}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    sys.exit(code or 0)


def in_options(message: str, options: argparse.ArgumentParser) -> str:
    """Replaces Python arguments in backticks with a command's options.

    Args:
        message: a text such as "Use `resume=True` or another `workdir`."
        options: the command's parser. Arguments without an option stay unchanged.

    Returns:
        A text such as "Use `--resume` or another `--workdir`."
    """
    known = set(re.findall(r"--[a-z][a-z0-9-]*", options.format_usage()))

    def replace(match: re.Match) -> str:
        name, value = match.groups()
        option = "--" + name.replace("_", "-")
        if option not in known:
            return match[0]
        if value in (None, "True"):
            return f"`{option}`"
        return f"`{option} {'none' if value == 'None' else value.strip(chr(39))}`"

    return as_invoked(re.sub(r"`(\w+)(?:=([^`]*))?`", replace, message))


def as_invoked(text: str) -> str:
    """Renames commands in a text if the user runs installed commands instead of scripts.

    Args:
        text: a text such as "python train.py --resume".

    Returns:
        The text unchanged if the user runs a script, else a text such as "lcc-train --resume".
    """
    if sys.argv[0].endswith(".py"):
        return text
    scripts = r"(?:python )?\b(train|evaluate|predict|export|import_torch)\.py"
    return re.sub(scripts, lambda match: "lcc-" + match[1].replace("_", "-"), text)


def new_parser(
    description: str, examples: str, exit_codes: Mapping[int, str]
) -> argparse.ArgumentParser:
    """Returns a parser whose help ends with examples and exit codes.

    Args:
        description: the help's first paragraph.
        examples: one command per line.
        exit_codes: meanings of the command's exit codes. The codes of `run` are added.
    """
    codes = {
        **exit_codes,
        2: "an option, a file or a folder cannot be used",
        130: "interrupted (Ctrl-C)",
        143: "terminated (SIGTERM)",
    }
    listed = "\n".join(f"  {code:<4d} {meaning}" for code, meaning in codes.items())
    return argparse.ArgumentParser(
        description=description,
        epilog=as_invoked(f"examples:\n{examples}\nexit codes:\n{listed}\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_option(
    group: OptionGroup,
    name: str,
    text: str,
    *,
    default: object = None,
    default_text: str | None = None,
    **settings: Any,
) -> None:
    """Adds an option with a value. Its help ends with its default.

    Args:
        group: a parser or a group of options.
        name: the option, such as "--tile".
        text: help without the default.
        default: value of an absent option.
        default_text: the default as shown in the help; None to show `default`.
        **settings: further arguments of `add_argument`.
    """
    shown = in_words(default) if default_text is None else default_text
    text = as_invoked(f"{text} (default: {shown})")
    group.add_argument(name, default=default, help=text, **settings)


def add_flag(group: OptionGroup, name: str, text: str, *, default: object = False) -> None:
    """Adds an option without a value, which is True if the user sets it."""
    group.add_argument(name, action="store_true", default=default, help=text)


def in_words(value: object) -> str:
    """Formats a value as the user would type it.

    Example:
        >>> in_words((0.5, 2.0)), in_words(None)
        ('0.5 2', 'none')
    """
    if isinstance(value, list | tuple):
        return " ".join(map(in_words, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def numbers_or_text(
    text: str, number: type[int] | type[float] = float, separator: str | None = ","
) -> str | tuple[float, ...]:
    """Parses numbers. Any other text is returned unchanged, for the library to check.

    Args:
        text: the option's value.
        number: type of the numbers.
        separator: text between the numbers; None for spaces.

    Example:
        >>> numbers_or_text("3,2,1", int), numbers_or_text("minmax")
        ((3, 2, 1), 'minmax')
    """
    try:
        return tuple(number(part) for part in text.split(separator))
    except ValueError:
        return text


def positive_int(text: str) -> int:
    """Parses a whole number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return number


def positive_float(text: str) -> float:
    """Parses a finite number larger than 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be larger than 0. Received: {text}")
    return number


# argparse prints a parsing function's name if the text is not a number.
positive_int.__name__ = "whole number"
positive_float.__name__ = "number"


def add_runs(group: OptionGroup, text: str = "run folders; several runs form an ensemble") -> None:
    """Adds `--runs`."""
    add_option(
        group,
        "--runs",
        text,
        default=[],
        default_text="all runs in runs/",
        metavar="DIR",
        nargs="+",
        type=Path,
    )


def add_member_weights(group: OptionGroup) -> None:
    """Adds `--member-weights`, for numbers only."""
    add_option(
        group,
        "--member-weights",
        "weights of the ensemble's members, one per run in the order of --runs; evaluate.py can "
        "find good weights",
        default_text="equal weights",
        metavar="W",
        nargs="+",
        type=float,
    )


def add_average(group: OptionGroup) -> None:
    """Adds `--average`."""
    add_option(
        group,
        "--average",
        "outputs that the ensemble averages",
        choices=("probabilities", "logits"),
        default="probabilities",
    )


def add_tta(group: OptionGroup) -> None:
    """Adds `--tta`."""
    add_option(
        group,
        "--tta",
        "test-time augmentation: average the predictions of the flipped image (flip: 4 times the "
        "work) or of the flipped and rotated image (d4: 8 times the work)",
        choices=("none", "flip", "d4"),
        default="none",
    )


def add_output(group: OptionGroup, text: str, *, default: str) -> None:
    """Adds `--output`."""
    add_option(group, "--output", text, default=Path(default), metavar="DIR", type=Path)
