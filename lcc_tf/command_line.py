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


@contextlib.contextmanager
def new_folder(path: Path, *, holds: str, overwrite: bool) -> Iterator[Path]:
    """Gives a folder to fill, which gets its name when all of it is there.

    Args:
        path: the folder's name in the end.
        holds: a file that each such folder holds; a folder without it is never overwritten.
        overwrite: replaces the folder of that name, once the new one is complete.

    Yields:
        An empty folder beside `path`. It vanishes where filling it fails.

    Raises:
        InputError: `path` is taken and not to be overwritten.
    """
    taken = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if taken and not (path / holds).is_file():
        raise InputError(
            f"{path} exists and holds other files (no {holds}). Choose another `--output`."
        )
    if taken and not overwrite:
        raise InputError(
            f"{path} exists already, and nothing is overwritten unasked. Choose another "
            "`--output`, or replace it by `--overwrite`."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".unfinished.{path.name}.", dir=path.parent
    ) as unfinished:
        new = Path(unfinished) / "new"
        new.mkdir()
        yield new
        if path.exists():
            os.replace(path, Path(unfinished) / "old")
        os.replace(new, path)
