"""Options, exit codes and error messages that the commands share.

Importing TensorFlow takes seconds. The modules of the commands do not import TensorFlow. Therefore,
`--help` and errors about options are printed at once. Parsers import choices and defaults
from modules that do not use TensorFlow, such as `lcc_tf.config`. All other choices and defaults are
copied, and tests/cli/test_defaults.py verifies that the copies are equal to the library.
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
from tfds_deepglobe.errors import error_line, escape_unknown_characters

# Common base class of parsers and option groups, used only in annotations. It has no public name in
# argparse. If argparse renames the class, importing this module fails.
OptionGroup = argparse._ActionsContainer


class Terminated(KeyboardInterrupt):
    """Exception for the signal SIGTERM. The command then ends in the same way as after Ctrl-C."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def set_environment() -> None:
    """Sets the environment variables that TensorFlow and Keras read when they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # By default, TensorFlow uses oneDNN only on processors with AVX512-VNNI or newer instructions.
    # oneDNN is also faster on processors with AVX2 (docs/performance.md).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"


def run(
    command: Callable[[argparse.Namespace], int | None],
    options: argparse.ArgumentParser,
    *,
    when_interrupted: str,
) -> NoReturn:
    """Parses the command line, runs a command and ends the process.

    If the user can fix an error, only the message is printed. For all other errors, which are bugs,
    Python prints the traceback.

    Args:
        command: function that receives the parsed options and returns the exit code. If the
            function returns None, the exit code is 0.
        options: parser of the command.
        when_interrupted: text to print after Ctrl-C or SIGTERM.

    Raises:
        SystemExit: Always. The exit code is

            - the exit code of the command,
            - 2 if an input cannot be used,
            - 3 if the loss of a training is not a finite number,
            - 130 after Ctrl-C,
            - 143 after SIGTERM.
    """
    set_environment()
    escape_unknown_characters()
    signal.signal(signal.SIGTERM, _terminate)
    arguments = options.parse_args()
    try:
        code = command(arguments)
    except (InputError, DatasetError, OSError) as error:
        print(in_options(error_line(error), options), file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 2))
    except KeyboardInterrupt as interruption:
        terminated = isinstance(interruption, Terminated)
        word = "terminated" if terminated else "interrupted"
        print(f"\n{word}; {when_interrupted}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    sys.exit(code or 0)


def in_options(message: str, options: argparse.ArgumentParser) -> str:
    """Replaces Python arguments in backticks with the options of a command.

    Args:
        message: text such as "Use `resume=True` or another `workdir`."
        options: parser of the command. If the command has no option for an argument, the argument
            is not changed.

    Returns:
        Text such as "Use `--resume` or another `--workdir`."
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
    """Replaces script names in a text with command names if the user runs an installed command.

    Args:
        text: text such as "python train.py --resume".

    Returns:
        If the user runs an installed command, a text such as "lcc-train --resume". If the user runs
        a script, the unchanged text.
    """
    if sys.argv[0].endswith(".py"):
        return text
    scripts = r"(?:python )?\b(train|evaluate|predict|export|import_torch|tiles)\.py"
    return re.sub(scripts, lambda match: "lcc-" + match[1].replace("_", "-"), text)


def new_parser(
    description: str, examples: str, exit_codes: Mapping[int, str]
) -> argparse.ArgumentParser:
    """Returns a parser. The help text ends with examples and exit codes.

    Args:
        description: first paragraph of the help text.
        examples: examples, one command per line.
        exit_codes: key: exit code of the command. Value: meaning of the exit code. The exit codes
            of `run` are added.
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
    """Adds an option with a value. The help text ends with the default value.

    Args:
        group: parser or group of options.
        name: name of the option, such as "--tile".
        text: help text without the default value.
        default: value if the user does not set the option.
        default_text: text for the default value in the help; None to show `default`.
        **settings: other arguments of argparse's `add_argument`.
    """
    shown = in_words(default) if default_text is None else default_text
    text = as_invoked(f"{text} (default: {shown})")
    group.add_argument(name, default=default, help=text, **settings)


def add_flag(group: OptionGroup, name: str, text: str, *, default: object = False) -> None:
    """Adds an option without a value. The parsed option is True if the user sets the option."""
    group.add_argument(name, action="store_true", default=default, help=text)


def in_words(value: object) -> str:
    """Formats a value as text, in the way in which users type the value of an option.

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
    """Parses numbers. If the text does not consist of numbers, it is returned unchanged.

    The library later raises an error if the returned text is not valid.

    Args:
        text: value of the option.
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


def path(text: str) -> Path:
    """Parses the path of a file or a folder.

    An empty text is an error, because `Path("")` is the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


def positive_int(text: str) -> int:
    """Parses a positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return number


def positive_float(text: str) -> float:
    """Parses a positive, finite number."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be larger than 0. Received: {text}")
    return number


# If the text is not a number, argparse prints the name of the parsing function.
positive_int.__name__ = "whole number"
positive_float.__name__ = "number"


def add_runs(
    group: OptionGroup, text: str = "run folders; the predictions of several runs are averaged"
) -> None:
    """Adds `--runs`."""
    add_option(
        group,
        "--runs",
        text,
        default=[],
        default_text="all runs in runs/",
        metavar="DIR",
        nargs="+",
        type=path,
    )


def add_member_weights(group: OptionGroup) -> None:
    """Adds `--member-weights`, which accepts only numbers.

    A member is a network of an ensemble, and each run is one member.
    """
    add_option(
        group,
        "--member-weights",
        "weight of each run in the average of the predictions, one number per run in the order of "
        "--runs; evaluate.py can find good weights",
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
        "values that are averaged if there are several runs",
        choices=("probabilities", "logits"),
        default="probabilities",
    )


def add_tta(group: OptionGroup) -> None:
    """Adds `--tta`."""
    add_option(
        group,
        "--tta",
        "test-time augmentation: average the predictions of several copies of an image; flip: 4 "
        "flipped copies (4 times the work); d4: 8 flipped and rotated copies (8 times the work)",
        choices=("none", "flip", "d4"),
        default="none",
    )


def add_output(group: OptionGroup, text: str, *, default: str) -> None:
    """Adds `--output`."""
    add_option(group, "--output", text, default=Path(default), metavar="DIR", type=path)
