"""Runs a function on all cores, with a progress bar."""

import collections
import concurrent.futures
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

# More threads would need more memory. They would not be faster, because the disk limits the speed.
_MAX_WORKERS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], description: str
) -> Iterator[Result]:
    """Calls a function for each item on several threads, with a progress bar.

    Threads are fast enough, because Pillow, numpy and zlib release Python's global interpreter
    lock. At most two results per thread are computed in advance. Therefore, the memory does not
    grow with the number of items.

    Args:
        function: function of one item. Several threads call the function at the same time.
        items: arguments of the function.
        description: label of the progress bar.

    Yields:
        The results in the order of the items.

    Example:
        >>> list(ordered_map(abs, [-2, 1], "counting"))
        [2, 1]
    """
    items = list(items)
    workers = min(num_cores(), _MAX_WORKERS)
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    # If the output is not a terminal, each update of the bar adds a line to a log file. Therefore,
    # update the bar less often.
    interval = 0.2 if sys.stderr.isatty() else 10.0
    try:
        with tqdm(total=len(items), desc=description, unit="image", mininterval=interval) as bar:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == 2 * workers:
                    yield pending.popleft().result()
                    bar.update()
            while pending:
                yield pending.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def num_cores() -> int:
    """Returns the number of cores that this process may use.

    `os.cpu_count` is not used, because it also counts cores that this process may not use.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
