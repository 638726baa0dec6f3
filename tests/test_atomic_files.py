import pytest

from lcc_tf.atomic_files import write_atomically


def test_write_atomically_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
