"""Options and error messages that the commands share."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lcc_tf.errors import InputError
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.errors import error_line

# argparse has no public name for parsers and groups together. Annotations only: if the name goes,
# the import of this module fails.
OptionGroup = argparse._ActionsContainer


class Terminated(KeyboardInterrupt):
    """SIGTERM. The process cleans up as after Ctrl-C."""


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

    Exit codes: the command's, or 0; 2 for an input that cannot be used; 130 after Ctrl-C; 143 after
    SIGTERM.

    Args:
        command: takes the parsed options and returns the exit code, or None for 0.
        options: the command's parser.
        when_interrupted: to print after Ctrl-C or SIGTERM.
    """
    # Both are read when TensorFlow and Keras are imported, which the commands do later.
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
    """Replaces the Python arguments that a message names in backticks by a command's options.

    Args:
        message: such as "Use `resume=True` or another `workdir`."
        options: the command's parser; arguments without an option stay unchanged.

    Returns:
        Such as "Use `--resume` or another `--workdir`."
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
    """Names the commands in a text as the user started this one.

    Args:
        text: such as "python train.py --resume".

    Returns:
        The text unchanged if a script of the checkout runs, else such as "lcc-train --resume".
    """
    if sys.argv[0].endswith(".py"):
        return text
    scripts = r"(?:python )?\b(train|evaluate|predict|export|import_torch)\.py"
    return re.sub(scripts, lambda match: "lcc-" + match[1].replace("_", "-"), text)


def new_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Returns a parser whose help ends with examples. It returns no value for an absent option."""
    return argparse.ArgumentParser(
        description=description,
        epilog=as_invoked(f"examples:\n{examples}"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )


def words_or_numbers(values: list[str]) -> str | list[float]:
    """Parses numbers, or the name of a method that finds them.

    The name is not checked here.
    """
    try:
        return [float(value) for value in values]
    except ValueError:
        return " ".join(values)


def positive_int(text: str) -> int:
    """Parses a whole number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return number


def positive_float(text: str) -> float:
    """Parses a number larger than 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be larger than 0. Received: {text}")
    return number


# argparse prints the name of the function in its error for a text that is not a number.
positive_int.__name__ = "whole number"
positive_float.__name__ = "number"


def add_runs(options: OptionGroup) -> None:
    """Adds `--runs`."""
    options.add_argument(
        "--runs",
        metavar="DIR",
        nargs="+",
        type=Path,
        default=[],
        help="one run folder, or several for their ensemble (default: every run under runs/)",
    )


def add_member_weights(options: OptionGroup) -> None:
    """Adds `--member-weights`, for numbers only."""
    options.add_argument(
        "--member-weights",
        metavar="W",
        nargs="+",
        type=float,
        default=None,
        help="weights of the ensemble, one per run in the order of --runs, such as those that "
        "evaluate.py found (default: equal weights)",
    )


def add_average(options: OptionGroup) -> None:
    """Adds `--average`."""
    options.add_argument(
        "--average",
        choices=("probabilities", "logits"),
        default="probabilities",
        help="what the ensemble averages (default: %(default)s)",
    )


def add_tta(options: OptionGroup) -> None:
    """Adds `--tta`."""
    options.add_argument(
        "--tta",
        choices=("none", "flip", "d4"),
        default="none",
        help="test-time augmentation: average over flipped images (flip, 4 times the work) or over "
        "rotated and flipped images (d4, 8 times the work) (default: %(default)s)",
    )
