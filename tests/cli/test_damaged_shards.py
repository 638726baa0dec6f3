"""Damaged files of a prepared data set: each command ends with one line that names the file."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.untrained_runs import write_untrained_run
from tfds_deepglobe.prepare import directory_of


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


# A record has 8 bytes of length, 4 bytes of checksum, the data, and 4 bytes of checksum.
DAMAGES = {
    "length": lambda content: flipped(content, 0),
    "checksum of the length": lambda content: flipped(content, 9),
    "data": lambda content: flipped(content, len(content) // 2),
    "checksum of the data": lambda content: flipped(content, len(content) - 1),
    "truncated": lambda content: content[:-7],
    "empty": lambda content: b"",
    "added": lambda content: content + b"123",
    "repeated": lambda content: content * 2,
    "zeros": lambda content: bytes(512) + content[512:],
    "removed": None,
    "exchanged": None,
}


@pytest.fixture(scope="module")
def untrained_run(demo_data, builder, tiny_config, tmp_path_factory):
    """The folder of a run whose data set is in the folder `tfds` of the working directory."""
    folder = tmp_path_factory.mktemp("untrained") / "run"
    data = dataclasses.replace(demo_data, cache_dir="tfds")
    write_untrained_run(folder, tiny_config, builder, data=data)
    return folder


@pytest.fixture
def refuse_damage(run, demo_data, builder, tmp_path, monkeypatch):
    """Returns a function that damages a file of a split, and asserts that a command fails."""

    def refuse_damage(damage, split, count, command, *arguments):
        monkeypatch.chdir(tmp_path)
        shutil.copytree(demo_data.cache_dir, "tfds")
        directory = directory_of("tfds", builder.info.metadata["fingerprint"])
        name = f"deepglobe-{split}.tfrecord-00000-of-{count:05}"
        file, other = directory / name, directory / name.replace("00000-of", "00001-of")
        content = file.read_bytes()
        if damage == "removed":
            file.unlink()
        elif damage == "exchanged":
            file.write_bytes(other.read_bytes())
            other.write_bytes(content)
        else:
            file.write_bytes(DAMAGES[damage](content))
        code, _, errors = run(command, *arguments)
        assert code == 2, errors
        (line,) = [line for line in errors.splitlines() if "error: " in line]
        assert f"The prepared data set {directory} is damaged: {name} " in line
        assert f"To prepare it again, delete the data set with `rm -r {directory}` and" in line
        assert "Traceback" not in errors

    return refuse_damage


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_names_the_damaged_file(refuse_damage, damage, eagerly):
    refuse_damage(
        *(damage, "train", 13, "train"),
        *("--data", "demo", "--demo-count", 16, "--demo-size", 64, "--cache-dir", "tfds"),
        *("--arch", "deeplabv3plus", "--encoder", "tiny", "--encoder-weights", "none"),
        *("--image-size", 32, "--batch-size", 13, "--crops-per-image", 1, "--epochs", 1),
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_scoring_names_the_damaged_file(refuse_damage, untrained_run, damage, eagerly):
    refuse_damage(damage, "test", 2, "evaluate", "--runs", untrained_run)
    assert not Path("results").exists()
