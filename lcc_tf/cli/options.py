"""What the scripts share: options, and errors as one line."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tfds_deepglobe.errors import InputError, error_line


def run(main: Callable[[], int | None], *, when_interrupted: str) -> NoReturn:
    """Runs a script's main function and ends the process.

    What the user can mend is printed as one line, with exit code 2; a defect keeps its traceback.

    Args:
        main: the script; it gives the exit code, or None for 0.
        when_interrupted: what to tell the user after Ctrl-C or SIGTERM (exit code 130).
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as after Ctrl-C
    try:
        code = main()
    except (InputError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {when_interrupted}", file=sys.stderr)
        sys.exit(130)
    sys.exit(code or 0)


def parser(description: str, examples: str) -> argparse.ArgumentParser:
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
