"""What the scripts share: options, and errors as one line."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from tfds_deepglobe.errors import InputError


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
        print(f"error: {error}", file=sys.stderr)
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
