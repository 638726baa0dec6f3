import pytest

from lcc_tf.data.memory import available_memory


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Returns the files of the system, with 5 MB of free memory and no limit."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\nCached: 1 kB\n")
    monkeypatch.setattr("lcc_tf.data.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("lcc_tf.data.memory.CGROUPS", tmp_path / "fs")
    monkeypatch.setattr("lcc_tf.data.memory.CGROUP", tmp_path / "cgroup")
    return tmp_path


V2 = {"memory.max": "limit", "memory.current": "used", "memory.stat": "inactive_file"}
V1 = {
    "memory.limit_in_bytes": "limit",
    "memory.usage_in_bytes": "used",
    "memory.stat": "total_inactive_file",
}


@pytest.mark.parametrize(
    ("groups", "names", "folder"),
    [
        ("0::/", V2, ""),
        ("0::/slurm/job_7/step_0", V2, "slurm/job_7"),
        ("3:cpu:/\n4:memory:/job\n0::/", V1, "memory/job"),
        ("4:cpu,memory:/docker/of_the_host", V1, "memory"),
    ],
)
@pytest.mark.parametrize(
    ("limit", "used", "cached", "expected"),
    [
        ("max", "7", 0, 5120000),
        ("4000000", "1000000", 0, 3000000),
        ("4000000", "3500000", 2500000, 3000000),  # cached files can be freed
        ("9000000", "1000000", 0, 5120000),
        ("1000000", "1000001", 0, 0),
    ],
)
def test_memory_of_a_container(files, groups, names, folder, limit, used, cached, expected):
    values = {"limit": limit, "used": used}
    (files / "cgroup").write_text(f"{groups}\n")
    (files / "fs" / folder).mkdir(parents=True)
    for name, value in names.items():
        text = f"anon 7\n{value} {cached}" if name == "memory.stat" else values[value]
        (files / "fs" / folder / name).write_text(f"{text}\n")
    assert available_memory() == expected


def test_memory_of_a_machine_without_limits(files):
    assert available_memory() == 5120000
    (files / "cgroup").write_text("4:memory:/\n0::/\n")
    assert available_memory() == 5120000


def test_unknown_memory_is_zero(files):
    (files / "meminfo").write_text("MemTotal: 9000 kB\n")
    assert available_memory() == 0
    (files / "meminfo").unlink()
    assert available_memory() == 0
