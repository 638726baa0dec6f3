"""Available memory of the machine, and memory of this process."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # limits of containers and of jobs of a queue
CGROUP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")


def available_memory() -> int:
    """Returns the memory that programs can use without swapping, bytes.

    A container can have less memory than the machine. The result is 0 if the memory is unknown.

    Example:
        >>> available_memory() > 0
        True
    """
    try:
        free = _numbers(MEMINFO)["MemAvailable:"]
        return max(0, min([1024 * free, *_free_in_groups()]))
    except (OSError, ValueError, KeyError):
        return 0


def resident_memory() -> int:
    """Returns the memory that this process uses now, bytes; 0 if the memory is unknown.

    Example:
        >>> resident_memory() > 0
        True
    """
    try:
        return 1024 * _numbers(STATUS)["VmRSS:"]
    except (OSError, ValueError, KeyError):
        return 0


def _free_in_groups() -> Iterator[int]:
    """Yields the free memory of each control group of this process that has a limit, bytes.

    The files of version 1 and of version 2 of control groups have different names:
    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    for line in CGROUP.read_text(encoding="utf-8").splitlines() if CGROUP.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used, cache = CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, cache = CGROUPS / "memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            text = (
                (folder / limit).read_text(encoding="utf-8").strip()
                if (folder / limit).exists()
                else "max"
            )
            if text != "max":
                # Linux frees cached files before a program runs out of memory.
                cached = _numbers(folder / "memory.stat").get(cache, 0)
                yield int(text) - int((folder / used).read_text(encoding="utf-8")) + cached


def _numbers(file: Path) -> dict[str, int]:
    """Reads a file with a name and a number in each line."""
    lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
