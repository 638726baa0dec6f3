import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lcc_tf.errors import InputError
from lcc_tf.files import (
    complete_file,
    locked_folder,
    new_folder,
    sampled_hash,
    unfinished_folder,
    unfinished_name,
    write_atomically,
)

ROOT = Path(__file__).parents[1]


def test_earlier_file_is_unchanged_if_writing_fails(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_atomically(file, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_folder_exists_only_when_it_is_complete(tmp_path):
    path = tmp_path / "results"
    with new_folder(path, contents={"a.json", "panels"}, overwrite=False) as new:
        (new / "a.json").write_text("1")
        assert not path.exists()
    assert (path / "a.json").read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_earlier_folder_is_unchanged_if_writing_is_interrupted(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    (path / "a.json").write_text("old")

    def interrupted():
        with new_folder(path, contents={"a.json", "panels"}, overwrite=True) as new:
            (new / "a.json").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (path / "a.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_overwritten_only_with_overwrite(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    (path / "a.json").write_text("old")
    with (
        pytest.raises(
            InputError, match="already exists. Replace it with `overwrite=True`.*as `output`"
        ),
        new_folder(path, contents={"a.json", "panels"}, overwrite=False),
    ):
        pass
    with new_folder(path, contents={"a.json", "panels"}, overwrite=True) as new:
        (new / "a.json").write_text("new")
    assert (path / "a.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_with_only_other_files_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with (
        pytest.raises(InputError, match="contains other files"),
        new_folder(tmp_path, contents={"a.json", "panels"}, overwrite=True),
    ):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_complete_folder_with_an_additional_file_is_never_overwritten(tmp_path):
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(InputError, match=r"other files \(notes.txt\)"),
        new_folder(tmp_path, contents={"a.json"}, overwrite=True),
    ):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_failure_deletes_new_parents_and_restores_the_earlier_folder(tmp_path, monkeypatch):
    def fails(path):
        with new_folder(path, contents={"a.json"}, overwrite=True) as new:
            (new / "a.json").write_text("new")
            replace = os.replace

            def once(source, target):
                if source == new:
                    monkeypatch.undo()
                    raise OSError("busy")
                replace(source, target)

            monkeypatch.setattr(os, "replace", once)

    with pytest.raises(OSError, match="busy"):
        fails(tmp_path / "deep" / "er" / "results")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("old")
    with pytest.raises(OSError, match="busy"):
        fails(tmp_path / "results")
    assert (tmp_path / "results" / "a.json").read_text() == "old"


def test_path_that_is_a_file_raises(tmp_path):
    (tmp_path / "run").write_text("mine")
    with (
        pytest.raises(InputError, match="run is a file, not a folder.*a folder as `workdir`"),
        new_folder(tmp_path / "run", contents=set(), argument="workdir"),
    ):
        pass
    assert (tmp_path / "run").read_text() == "mine"


def test_current_folder_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for path in (Path("."), Path(".."), tmp_path / "a", Path("c/..")):
        with (
            pytest.raises(InputError, match="`output` must not be the current folder or a folder"),
            new_folder(path, contents={"b"}, overwrite=True),
        ):
            pass
    with new_folder(Path("../c"), contents=set()):
        pass
    assert (tmp_path / "a" / "c").is_dir()


def test_files_of_a_killed_process_are_deleted(tmp_path):
    left = tmp_path / ".unfinished.a.tif" / "raw.tif"
    left.parent.mkdir()
    left.write_bytes(b"half of a map")
    with unfinished_folder(tmp_path / "a.tif"):
        assert not left.exists()  # its disk space can be necessary for the new files
    assert list(tmp_path.iterdir()) == []


class LibraryError(Exception):
    """Error class of a library, such as `tf.errors.ResourceExhaustedError`."""


FULL = r"disk is full: [\d.]+ MB are free"
LIMITED = "the system limits the size of files .*File too large.*`ulimit -f`"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FULL),
        (LibraryError("SaveV2: /a/b.tempstate; No space left on device [Op:SaveV2]"), FULL),
        (OSError("Can't write data (errno = 28, 'No space left on device')"), FULL),
        (OSError("Can't write data (errno = 27, 'File too large')"), LIMITED),
    ],
)
def test_error_of_a_file_that_cannot_grow_names_the_file_and_leaves_nothing(
    tmp_path, error, reason
):
    def write(context):
        with context as path:
            (path / "half" if path.is_dir() else path).touch()
            raise error

    for context in (new_folder(tmp_path / "out", contents=set()), complete_file(tmp_path / "out")):
        with pytest.raises(OSError, match=f"out cannot be written.*{reason}"):
            write(context)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_converted(tmp_path):
    with (
        pytest.raises(LibraryError, match="^a defect$"),
        new_folder(tmp_path / "out", contents=set()),
    ):
        raise LibraryError("a defect")


def test_link_that_a_killed_process_left_does_not_change_the_other_file(tmp_path):
    best, last = tmp_path / "best", tmp_path / "last"
    best.write_text("best weights")
    os.link(best, unfinished_name(last))
    write_atomically(last, b"new weights")
    assert (best.read_text(), last.read_text()) == ("best weights", "new weights")


def test_locked_folder_of_another_process_raises(tmp_path):
    code = (
        "import pathlib, sys, time; from lcc_tf.files import locked_folder\n"
        "with locked_folder(pathlib.Path(sys.argv[1]), 'workdir'):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)"
    )
    folder = tmp_path / "runs" / "run"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"locked\n"
        with (
            pytest.raises(InputError, match="Another process is writing .*run.*another.*`workdir`"),
            locked_folder(folder, "workdir"),
        ):
            pass
        process.kill()  # the system releases the lock
    with locked_folder(folder, "workdir"):
        (folder / "config.json").touch()
    assert (folder / "config.json").exists()


def test_locked_folder_without_files_is_deleted_with_its_new_parents(tmp_path):
    with locked_folder(tmp_path / "runs" / "run", "workdir"):
        assert (tmp_path / "runs" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="file is a file, not a folder"),
        locked_folder(tmp_path / "file", "workdir"),
    ):
        pass


def test_sampled_hash_depends_on_content_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr("lcc_tf.files.HASHED_BLOCK", 4)
    monkeypatch.setattr("lcc_tf.files.HASHED_BLOCKS", 3)
    file = tmp_path / "a"
    contents = [b"", b"a", b"b", b"0123456789", b"012345678x", b"0" * 100, b"0" * 101, b"1" * 100]
    contents.append(b"0" * 66 + b"x" + b"0" * 33)  # byte 66 is in the last of three blocks
    hashes = set()
    for content in contents:
        file.write_bytes(content)
        hashes.add(sampled_hash(file))
        assert sampled_hash(file) in hashes
    assert len(hashes) == len(contents)


def test_two_processes_cannot_write_the_same_folder(tmp_path):
    with new_folder(tmp_path / "results", contents={"a"}) as folder:
        (folder / "a").write_text("first")
        with (
            pytest.raises(InputError, match="Another process is writing .*results"),
            new_folder(tmp_path / "results", contents={"a"}),
        ):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["results"]
    assert (tmp_path / "results" / "a").read_text() == "first"
