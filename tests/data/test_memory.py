import pytest

from lcc_tf.data.memory import available_memory


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Returns the files of the system, with 5 MB of free memory and no limit."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\nCached: 1 kB\n")
    monkeypatch.setattr("lcc_tf.data.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("lcc_tf.data.memory.LIMIT", tmp_path / "max")
    monkeypatch.setattr("lcc_tf.data.memory.CURRENT", tmp_path / "current")
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "current", "expected"),
    [
        (None, None, 5120000),
        ("max", "7", 5120000),
        ("4000000", "1000000", 3000000),
        ("9000000", "1000000", 5120000),
        ("1000000", "1000001", 0),
    ],
)
def test_memory_of_a_machine_and_a_container(files, limit, current, expected):
    if limit:
        (files / "max").write_text(f"{limit}\n")
        (files / "current").write_text(f"{current}\n")
    assert available_memory() == expected


def test_unknown_memory_is_zero(files):
    (files / "meminfo").write_text("MemTotal: 9000 kB\n")
    assert available_memory() == 0
    (files / "meminfo").unlink()
    assert available_memory() == 0
