"""What the scripts share: options, and errors as one line."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tfds_deepglobe.errors import InputError


def run(main: Callable[[], None], *, when_interrupted: str) -> NoReturn:
    """Runs a script's main function and ends the process.

    What the user can mend is printed as one line, with exit code 2; a defect keeps its traceback.

    Args:
        main: the script.
        when_interrupted: what to tell the user after Ctrl-C or SIGTERM (exit code 130).
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as after Ctrl-C
    try:
        main()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {when_interrupted}", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


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


@contextlib.contextmanager
def new_folder(path: Path, *, holds: set[str], overwrite: bool) -> Iterator[Path]:
    """Gives a folder to fill, which gets its name when all of it is there.

    Args:
        path: the folder's name in the end.
        holds: names of what such a folder holds; one that holds anything else is never overwritten.
        overwrite: replaces the folder of that name, once the new one is complete.

    Yields:
        An empty folder beside `path`. It vanishes where filling it fails.

    Raises:
        InputError: `path` is taken and not to be overwritten.
    """
    there = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if foreign := sorted(there - holds):
        raise InputError(
            f"{path} exists and holds other files ({', '.join(foreign[:3])}). Choose another "
            "`--output`."
        )
    if there and not overwrite:
        raise InputError(
            f"{path} exists already, and nothing is overwritten unasked. Choose another "
            "`--output`, or replace it by `--overwrite`."
        )
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".unfinished.{path.name}.", dir=path.parent
        ) as unfinished:
            new, old = Path(unfinished) / "new", Path(unfinished) / "old"
            new.mkdir()
            yield new
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(new, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
