"""Runs a function on the workers of an Apache Beam runner. Each call writes one file.

A restarted run skips the files that exist. Therefore, all workers need a common file system.
"""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfds_deepglobe.errors import InputError, error_line, shorten

# Classes of the runners that only know the options of Beam itself. The job servers of the other
# runners have more options. If Beam renames a class, unknown options are ignored, and a test fails.
_LOCAL_RUNNERS = ("SwitchingDirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
_POLL_SECONDS = 0.5  # between two updates of the progress bar
# Suffixes of the file with the error of a worker: a fault of the element, or any other error, such
# as a full disk
_FAULT, _ERROR = ".fault", ".error"
# Exit codes of workers that were interrupted or terminated. Ctrl-C in a terminal interrupts the
# workers and this process at the same time. If this process still runs after the grace period, only
# a worker was interrupted.
_INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_GRACE_SECONDS = 5

# Function that a worker calls: its arguments are an element and the path of the file to write.
Write = Callable[[Any, Path], None]


class BeamError(InputError):
    """An error of a runner. The finished files are kept."""


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """Runner of Apache Beam, which distributes work to processes or machines.

    Attributes:
        name: name of the runner, such as "DirectRunner", "FlinkRunner" or "DataflowRunner".
        options: options of Beam and of the runner, "NAME=VALUE", or "NAME" for an option without a
            value.

    Raises:
        InputError: Beam is not installed, the runner is unknown, or an option is not valid.

    Example:
        >>> BeamRunner("DirectRunner", ["direct_num_workers=2"]).name
        'DirectRunner'
    """

    name: str
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        if importlib.util.find_spec("apache_beam") is None:
            raise InputError(
                "Apache Beam needs apache-beam, which is not installed. "
                "Run: pip install 'lcc_tf[beam]'"
            )
        unknown = self._unknown_options()
        try:
            runner = self._pipeline().runner
        # Beam raises other errors for each runner. All of them are about the name or the options.
        except Exception as error:
            reason = shorten(" ".join(str(error).split()))
            raise InputError(
                f"`beam_runner={self.name}` cannot be used with these `beam_options`: {reason}"
            ) from error
        if unknown and type(runner).__name__ in _LOCAL_RUNNERS:
            raise InputError(
                f"`beam_options` must be options of {self.name}. Received: {', '.join(unknown)}. "
                "Use for example direct_running_mode=multi_processing direct_num_workers=2."
            )

    def run(self, write: Write, files: Mapping[Path, Any], description: str) -> dict[Path, str]:
        """Writes files on the workers of the runner, and skips the files that exist.

        Each file is written under a temporary name, and renamed when it is complete.

        Args:
            write: function that writes a file. It must be picklable.
            files: elements to write. The keys are absolute paths; the values must be picklable.
            description: label of the progress bar.

        Returns:
            Faults of the elements whose files could not be written, one line per file.

        Raises:
            BeamError: The runner failed, for example because a worker was killed, or because the
                disk is full.
        """
        import apache_beam

        todo = {path: element for path, element in files.items() if not path.exists()}
        for path in todo:
            for suffix in (_FAULT, _ERROR):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        if todo:
            with _progress(list(files), description), _worker_environment(), _living_workers():
                try:
                    with self._pipeline() as pipeline:
                        _ = (
                            pipeline
                            | apache_beam.Create([(str(path), e) for path, e in todo.items()])
                            | apache_beam.Reshuffle()
                            | apache_beam.Map(_Worker(write))
                        )
                except BeamError:
                    raise
                except Exception as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
                    raise BeamError(
                        f"The Beam runner {self.name} failed: {shorten(reason)}. The finished "
                        "parts are kept: repeat the command to write only the missing parts."
                    ) from error
        faults = {}
        for path in todo:
            if path.exists():
                continue
            fault, failure = (path.with_name(path.name + suffix) for suffix in (_FAULT, _ERROR))
            if fault.exists():
                faults[path] = fault.read_text(encoding="utf-8")
            elif failure.exists():
                reason = failure.read_text(encoding="utf-8").rstrip(".")
                raise BeamError(
                    f"A worker could not write {path}: {reason}. The finished parts are kept: "
                    "repeat the command to write only the missing parts."
                )
            else:
                raise BeamError(
                    f"The workers of the Beam runner {self.name} have not written {path}. All "
                    "workers and this machine must use the same file system."
                )
        return faults

    def _pipeline(self) -> Any:
        """Returns a new pipeline for the runner."""
        apache_beam = _import_beam()
        from apache_beam.options.pipeline_options import (
            PipelineOptions,
            TypeOptions,
            WorkerOptions,
        )

        options = PipelineOptions(self._flags())
        # The log of Beam is long. The errors of workers are returned by `run`.
        worker = options.view_as(WorkerOptions)
        worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or "CRITICAL"
        # Without this option, DirectRunner of Beam 2.77 downloads and starts another runner, Prism.
        # The option has no other effect, because the pipeline has no triggers.
        options.view_as(TypeOptions).allow_unsafe_triggers = True
        return apache_beam.Pipeline(runner=self.name, options=options)

    def _unknown_options(self) -> list[str]:
        """Returns the options that Beam does not know. The runner can know these options.

        Raises:
            InputError: The value of an option is not valid.
        """
        _import_beam()
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(self._flags())
        printed = io.StringIO()
        try:
            with contextlib.redirect_stderr(printed):  # argparse prints its errors
                known = options.get_all_options()
        except SystemExit as error:
            reason = printed.getvalue().split("error: ")[-1].strip()
            raise InputError(
                f"`beam_options` must be options of Apache Beam. Received: {shorten(reason)}. "
                "Use for example direct_num_workers=2."
            ) from error
        every = options.get_all_options(retain_unknown_options=True)
        return sorted(every.keys() - known.keys())

    def _flags(self) -> list[str]:
        return [f"--{option.removeprefix('--')}" for option in self.options]


def runner_or_none(name: str | None, options: Sequence[str]) -> BeamRunner | None:
    """Returns the runner with a name; None without a name.

    Raises:
        InputError: There are options without a name, or see `BeamRunner`.

    Example:
        >>> runner_or_none(None, [])
    """
    if options and not name:
        raise InputError(
            f"`beam_options` needs `beam_runner`. Received: {' '.join(options)}. Set "
            "`beam_runner` to the name of a runner, such as DirectRunner."
        )
    return BeamRunner(name, tuple(options)) if name else None


@dataclasses.dataclass(frozen=True)
class _Worker:
    """Function that each worker calls for each file."""

    write: Write

    def __call__(self, file: tuple[str, Any]) -> None:
        path, element = Path(file[0]), file[1]
        try:
            with complete_file(path) as unfinished:
                self.write(element, unfinished)
        # Beam would try the element again and then print long tracebacks. Therefore, each error is
        # written to a file, and `BeamRunner.run` returns the text.
        except Exception as error:
            # An InputError of this package or of `lcc_tf` is a ValueError.
            is_fault = isinstance(error, ValueError)
            is_system_error = isinstance(error, OSError)
            text = str(error) or repr(error)
            if is_system_error:
                text = error_line(error).removeprefix("error: ")
            name = path.name + (_FAULT if is_fault else _ERROR)
            with complete_file(path.with_name(name)) as unfinished:
                unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path. When the temporary file is complete, it is renamed to `path`.

    The temporary name is unique, because Beam can call two workers for the same file.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(paths: Sequence[Path], description: str) -> Iterator[None]:
    """Shows the number of existing files while the workers write them."""
    stop = threading.Event()

    def count() -> int:
        return sum(path.exists() for path in paths)

    def watch() -> None:
        interval = 0.2 if sys.stderr.isatty() else 10.0
        with tqdm(
            total=len(paths), initial=count(), desc=description, unit="part", mininterval=interval
        ) as bar:
            while True:
                ended = stop.wait(_POLL_SECONDS)
                bar.update(count() - bar.n)
                if ended:
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _living_workers() -> Iterator[None]:
    """Raises a BeamError if a local worker process is killed. Beam would wait for it forever.

    Beam reports the end of a process as an error in a thread: "Worker subprocess exited with return
    code -9". If Beam changes this text, the command hangs, and a test fails. The thread sends
    SIGUSR1 to the main thread. SIGINT would not help, because processes in the background often
    ignore SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier_hook, reasons, is_running = threading.excepthook, list[str](), True
    main_thread = threading.get_ident()

    def hook(arguments: Any) -> None:
        reason = str(arguments.exc_value)
        if not (code := re.match(r"Worker subprocess exited.*?(-?\d+)", reason)):
            earlier_hook(arguments)
            return
        if int(code[1]) in _INTERRUPTED:
            time.sleep(_GRACE_SECONDS)
        if is_running:
            reasons.append(reason)
            signal.pthread_kill(main_thread, signal.SIGUSR1)

    def stop(*_: object) -> None:
        if is_running:
            raise BeamError(
                f"A worker process was killed, often because the memory is full: {reasons[0]}. The "
                "finished parts are kept: repeat the command, for example with fewer workers."
            )

    threading.excepthook = hook
    earlier_handler = signal.signal(signal.SIGUSR1, stop)
    try:
        yield
    finally:
        is_running = False
        threading.excepthook = earlier_hook
        signal.signal(signal.SIGUSR1, earlier_handler)


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """Sets the environment variables of local worker processes.

    The processes can import this package, also if it is not installed. TensorFlow uses one thread
    per process, because there are usually as many processes as cores.
    """
    earlier = dict(os.environ)
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, earlier.get("PYTHONPATH")]))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    try:
        yield
    finally:
        for name in ("PYTHONPATH", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.pop(name)
            if name in earlier:
                os.environ[name] = earlier[name]


def _import_beam() -> Any:
    """Imports Beam without its log messages.

    `logging` has no function that returns the level of `logging.disable`. If the attribute
    `manager.disable` goes, this function raises an AttributeError.
    """
    earlier = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        import apache_beam
    finally:
        logging.disable(earlier)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    return apache_beam
