import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfds_deepglobe.archive import Archive
from tfds_deepglobe.beam import BeamError, BeamRunner
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import write_kaggle_folder, zip_folder
from tfds_deepglobe.prepare import prepare

ROOT = Path(__file__).parents[1]
BEAM = {"beam_runner": "DirectRunner"}
TWO_PROCESSES = ["direct_running_mode=multi_processing", "direct_num_workers=2"]


def content(folder):
    """Returns a dictionary from the paths of all files in a folder to their bytes."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {file.relative_to(folder): file.read_bytes() for file in files}


@pytest.fixture
def data(tmp_path):
    return write_kaggle_folder(tmp_path / "raw", count=8)


def write_band_images(root):
    """Writes a folder of images with four bands and nodata pixels."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        values = random.integers(0, 3000, (24, 32, 4)).astype(np.float32)
        values[:3] = np.nan
        np.save(root / "images" / f"{i}.npy", values)
        mask = random.integers(0, 2, (24, 32), np.uint8)
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    (root / "class_dict.csv").write_text("name,r,g,b\nwater,0,0,0\nland,1,1,1\n")
    return root


def test_two_processes_write_the_bytes_of_the_local_data_set(data, tmp_path):
    prepare(data, tmp_path / "local", num_shards=3)
    prepare(data, tmp_path / "beam", num_shards=3, **BEAM, beam_options=TWO_PROCESSES)
    assert content(tmp_path / "beam") == content(tmp_path / "local")


@pytest.mark.parametrize("kind", ["zip", "bands"])
def test_data_set_of_other_archives_equals_the_local_data_set(kind, data, tmp_path):
    if kind == "zip":
        data = zip_folder(data, tmp_path / "raw.zip")
    else:
        data = write_band_images(tmp_path / "bands")
    prepare(data, tmp_path / "local")
    prepare(data, tmp_path / "beam", **BEAM)
    assert content(tmp_path / "beam") == content(tmp_path / "local")


def test_killed_preparation_continues_with_the_missing_shards(data, tmp_path):
    code = f"""
import os, signal
from tfds_deepglobe.archive import Archive
from tfds_deepglobe.prepare import prepare
read, count = Archive.read, 0
def kill(*arguments):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments)
Archive.read = kill
prepare({str(data)!r}, {str(tmp_path / "beam")!r}, beam_runner="DirectRunner")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert result.returncode == -9, result.stderr
    finished = list((tmp_path / "beam").rglob("unfinished_shards/[!.]*.tfrecord"))
    assert len(finished) == 4
    # If an image changes after the kill, its shard is written again.
    read = (data / "train").glob("*_sat.jpg")
    changed = next(
        file for file in sorted(read) if file.stem[:3].encode() in finished[0].read_bytes()
    )
    os.utime(changed, ns=(0, 0))
    inodes = {shard.stat().st_ino for shard in finished[1:]}
    redone = finished[0].stat().st_ino
    builder = prepare(data, tmp_path / "beam", **BEAM)
    written = {file.stat().st_ino for file in Path(builder.data_dir).glob("*.tfrecord-*")}
    assert len(written) == 8
    assert inodes < written
    assert redone not in written
    prepare(data, tmp_path / "local")
    assert content(tmp_path / "beam") == content(tmp_path / "local")


def test_faults_are_listed_like_by_the_local_preparation(data, tmp_path):
    for name in ("101_sat.jpg", "105_mask.png"):
        (data / "train" / name).write_bytes(b"damaged")
    with pytest.raises(InputError) as local:
        prepare(data, tmp_path / "local")
    with pytest.raises(InputError) as beam:
        prepare(data, tmp_path / "beam", **BEAM)
    assert str(beam.value) == str(local.value)
    assert not content(tmp_path / "beam")


def test_unexpected_error_of_a_worker_names_the_image(data, tmp_path, monkeypatch):
    read, failed = Archive.read, []

    def fail(archive, pair, color_map):
        if pair.id == "103" and not failed:
            failed.append(pair.id)
            raise MemoryError
        return read(archive, pair, color_map)

    monkeypatch.setattr(Archive, "read", fail)
    with pytest.raises(BeamError, match="train/103_sat.jpg cannot be written: MemoryError"):
        prepare(data, tmp_path / "beam", **BEAM)
    assert len(list((tmp_path / "beam").rglob("unfinished_shards/[!.]*.tfrecord"))) == 7


def kill_or_write(element, path):
    """Writes a file. The first call kills its process instead."""
    flag = path.with_name("killed")
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(element)


def test_killed_worker_process_ends_the_command(tmp_path):
    """SIGINT is ignored here, as in commands that a script starts in the background."""
    code = f"""
import signal
from pathlib import Path
from tfds_deepglobe.beam import BeamError, BeamRunner
from tfds_deepglobe.beam_shards_test import kill_or_write
signal.signal(signal.SIGINT, signal.SIG_IGN)
files = {{Path({str(tmp_path)!r}, str(i)): "text" for i in range(4)}}
try:
    BeamRunner("DirectRunner", {TWO_PROCESSES}).run(kill_or_write, files, "test")
except BeamError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("A worker process was killed"), result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam_runner": "NoRunner"}, "`beam_runner=NoRunner` cannot be used .* NoRunner"),
        ({"beam_options": ["a=1"]}, "`beam_options` needs `beam_runner`. Received: a=1"),
        ({**BEAM, "beam_options": ["direct_workers=2"]}, "options of DirectRunner. Received: dire"),
        ({**BEAM, "beam_options": ["direct_num_workers=x"]}, "invalid int value: 'x'"),
        ({"beam_runner": "DataflowRunner"}, "Missing required option: project"),
    ],
)
def test_invalid_runners_and_options_raise(arguments, message, data, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        prepare(data, tmp_path / "cache", **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_missing_beam_raises(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lcc_tf\[beam\]'"):
        BeamRunner("DirectRunner")


def test_beam_is_imported_only_for_a_runner():
    code = """
import sys
import tfds_deepglobe.prepare
assert not [name for name in sys.modules if name.startswith("apache_beam")]
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_shards_of_an_unfinished_preparation_are_deleted_in_the_end(data, tmp_path):
    directory = Path(prepare(data, tmp_path / "cache").data_dir)
    folder = directory.parent / "unfinished_shards"
    folder.mkdir()
    prepare(data, tmp_path / "cache")
    assert not folder.exists()
