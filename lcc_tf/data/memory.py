"""Available memory of the machine."""

from pathlib import Path

# Limit and present size of the memory of a container
LIMIT, CURRENT = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
MEMINFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Returns the memory that programs can use without swapping, bytes.

    A container can have less memory than the machine. The result is 0 if the memory is unknown.

    Example:
        >>> available_memory() > 0
        True
    """
    try:
        lines = MEMINFO.read_text().splitlines()
        (free,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        limits = [1024 * int(free)]
        if LIMIT.exists() and (limit := LIMIT.read_text().strip()) != "max":
            limits.append(int(limit) - int(CURRENT.read_text()))
        return max(0, min(limits))
    except (OSError, ValueError):
        return 0
