"""What the scripts share: options, and errors as one line."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lcc_tf.errors import InputError
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.errors import error_line


def run(
    command: Callable[[argparse.Namespace], int | None],
    options: argparse.ArgumentParser,
    *,
    when_interrupted: str,
) -> NoReturn:
    """Parses the command line, runs a command and ends the process.

    An error that the user can fix is printed as one line, with exit code 2; a defect keeps its
    traceback.

    Args:
        command: takes the parsed options and returns the exit code, or None for 0.
        options: the command's parser.
        when_interrupted: what to tell the user after Ctrl-C or SIGTERM (exit code 130).
    """
    # Both are read when TensorFlow and Keras are imported, which the commands do later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as after Ctrl-C
    arguments = options.parse_args()
    try:
        code = command(arguments)
    except (InputError, DatasetError, OSError) as error:
        print(in_options(error_line(error), options), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {when_interrupted}", file=sys.stderr)
        sys.exit(130)
    sys.exit(code or 0)


def in_options(message: str, options: argparse.ArgumentParser) -> str:
    """Replaces the Python arguments that a message names in backticks by a command's options.

    Args:
        message: such as "Use `resume=True` or another `workdir`."
        options: the command's parser; arguments that are no options of it stay unchanged.

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

    return re.sub(r"`(\w+)(?:=([^`]*))?`", replace, message)


def new_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples; options that are not given are left out."""
    return argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )


def words_or_numbers(values: list[str]) -> str | list[float]:
    """What an option holds that takes numbers or the name of a way to find them.

    A wrong name comes back as it is: who knows the right ones refuses it.
    """
    try:
        return [float(value) for value in values]
    except ValueError:
        return " ".join(values)


def positive_int(text: str) -> int:
    """What an option holds that takes a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return number


def positive_float(text: str) -> float:
    """What an option holds that takes a number larger than 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be larger than 0. Received: {text}")
    return number


# argparse names the function in what it says of a text that is no number.
positive_int.__name__ = "whole number"
positive_float.__name__ = "number"


def add_runs(options: argparse._ActionsContainer) -> None:
    """Adds `--runs`."""
    options.add_argument(
        "--runs",
        metavar="DIR",
        nargs="+",
        type=Path,
        default=[],
        help="one run folder, or several for their ensemble (default: every run under runs/)",
    )


def add_member_weights(options: argparse._ActionsContainer) -> None:
    """Adds `--member-weights`, numbers alone."""
    options.add_argument(
        "--member-weights",
        metavar="W",
        nargs="+",
        type=float,
        default=None,
        help="of the ensemble, one a run in the order of --runs, such as those that evaluate.py "
        "found (default: equal ones)",
    )


def add_average(options: argparse._ActionsContainer) -> None:
    """Adds `--average`."""
    options.add_argument(
        "--average",
        choices=("probabilities", "logits"),
        default="probabilities",
        help="what the ensemble averages (default: %(default)s)",
    )


def add_tta(options: argparse._ActionsContainer) -> None:
    """Adds `--tta`."""
    options.add_argument(
        "--tta",
        choices=("none", "flip", "d4"),
        default="none",
        help="test-time augmentation: average over mirrored (flip), or turned and mirrored images "
        "(d4), at 4 and 8 times the work (default: %(default)s)",
    )
