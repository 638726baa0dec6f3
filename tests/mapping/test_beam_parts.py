import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lcc_tf.errors import InputError
from lcc_tf.mapping import beam_parts
from lcc_tf.mapping.beam_parts import WORK_FOLDER, beam_blocks
from lcc_tf.mapping.map_images import map_images
from lcc_tf.mapping.outputs import EXTRAS, Outputs
from lcc_tf.prediction.predictors import EnsemblePredictor
from tests.mapping.scenes import noise, write_scene
from tests.mapping.test_map_images import always, by_color, ensemble_of
from tfds_deepglobe.beam import BeamError, BeamRunner

ROOT = Path(__file__).parents[2]
RUNNER = BeamRunner("DirectRunner")


def load():
    """Loads two networks. The pickled function is its name."""
    return ensemble_of(by_color(8), always(1), weights=[3, 1])


def map_with_beam(images, folder, **options):
    """Maps images on the workers of the runner and returns the images that failed."""
    outputs = Outputs(folder, **options)
    with beam_blocks(RUNNER, images, load(), load, outputs) as blocks_of:
        return map_images(images, load(), outputs, blocks_of=blocks_of, verbose=0)


def content(folder):
    """Returns the bytes of all files in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def scenes(tmp_path):
    """Two scenes with nodata pixels: 21 rows of tiles, which are three parts, and one row."""
    large, small = noise(500, 90), noise(30, 60)
    large[100:300, :50] = 0
    large[250:252] = 0
    small[:9] = 0
    return [
        write_scene(tmp_path / "large.tif", large, nodata=0),
        write_scene(tmp_path / "small.tif", small, nodata=0),
    ]


def test_maps_have_the_bytes_of_the_local_maps(scenes, tmp_path):
    assert not map_images(scenes, load(), Outputs(tmp_path / "local", EXTRAS), verbose=0)
    assert not map_with_beam(scenes, tmp_path / "beam", extras=EXTRAS)
    assert content(tmp_path / "beam") == content(tmp_path / "local")


def test_killed_maps_continue_with_the_missing_parts(scenes, tmp_path, monkeypatch):
    code = f"""
import os, signal
from pathlib import Path
import numpy as np
from tests.mapping import test_beam_parts as tests
write, count = np.savez_compressed, 0
def kill(*arguments, **arrays):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments, **arrays)
np.savez_compressed = kill
tests.map_with_beam([Path({str(scenes[0])!r})], Path({str(tmp_path / "beam")!r}))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    finished = list((tmp_path / "beam" / WORK_FOLDER).glob("[!.]*.npz"))
    assert len(finished) == 2
    predicted, map_blocks = [], beam_parts.map_blocks

    def record(*arguments):
        predicted.append(arguments[-1].start)
        return map_blocks(*arguments)

    monkeypatch.setattr(beam_parts, "map_blocks", record)
    map_with_beam(scenes[:1], tmp_path / "beam")
    starts = {int(file.stem.split("-")[-1]) for file in finished}
    assert starts | set(predicted) == {0, 8, 16}
    assert len(predicted) == 1
    map_images(scenes[:1], load(), Outputs(tmp_path / "local"), verbose=0)
    assert content(tmp_path / "beam") == content(tmp_path / "local")


def test_parts_of_other_settings_are_not_used(scenes, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.mapping.test_beam_parts.map_images", interrupt)
    with pytest.raises(KeyboardInterrupt):
        map_with_beam(scenes, tmp_path / "beam")
    monkeypatch.undo()
    parts = tmp_path / "beam" / WORK_FOLDER
    assert len(list(parts.iterdir())) == 4
    write_scene(scenes[1], 255 - noise(30, 60))
    assert not map_with_beam(scenes, tmp_path / "beam", extras=["confidence"])
    map_images(scenes, load(), Outputs(tmp_path / "local", ["confidence"]), verbose=0)
    assert content(tmp_path / "beam") == content(tmp_path / "local")


def test_broken_scene_is_reported_and_all_other_scenes_are_mapped(scenes, tmp_path, capsys):
    broken = tmp_path / "broken.tif"
    broken.write_text("no image")
    cut = write_scene(tmp_path / "cut.tif", noise(500, 90))
    cut.write_bytes(cut.read_bytes()[:60_000])
    assert map_with_beam([broken, cut, *scenes], tmp_path / "maps") == [broken, cut]
    errors = capsys.readouterr().err.strip().splitlines()
    assert [line for line in errors if str(broken) in line and "error: " in line]
    assert [line for line in errors if str(cut) in line and "error: " in line]
    assert not [line for line in errors if "Traceback" in line]
    assert len(list((tmp_path / "maps").glob("*_areas.csv"))) == 2
    assert not (tmp_path / "maps" / WORK_FOLDER).exists()


def test_unexpected_error_of_a_worker_names_the_scene(scenes, tmp_path, monkeypatch):
    def fail(*arguments):
        raise IndexError

    monkeypatch.setattr(beam_parts, "map_blocks", fail)
    with pytest.raises(InputError, match=r"small.tif could not be mapped: IndexError\(\)$"):
        map_with_beam(scenes[1:], tmp_path / "maps")
    assert not (tmp_path / "maps" / WORK_FOLDER).exists()


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_error_of_the_machine_keeps_the_finished_parts(error, scenes, tmp_path, monkeypatch):
    map_blocks = beam_parts.map_blocks

    def fail(*arguments):
        if arguments[-1].start == 8:
            raise error
        return map_blocks(*arguments)

    monkeypatch.setattr(beam_parts, "map_blocks", fail)
    with pytest.raises(
        BeamError, match="A worker could not write .*npz: .*The finished parts are kept"
    ):
        map_with_beam(scenes, tmp_path / "maps")
    assert len(list((tmp_path / "maps" / WORK_FOLDER).glob("*.npz"))) == 3


def test_scene_that_becomes_readable_later_is_not_mapped(scenes, tmp_path, capsys):
    late = tmp_path / "late.tif"
    late.write_text("no image")
    images, outputs = [late, scenes[1]], Outputs(tmp_path / "maps")
    with beam_blocks(RUNNER, images, load(), load, outputs) as blocks_of:
        write_scene(late, noise(30, 60))
        assert map_images(images, load(), outputs, blocks_of=blocks_of, verbose=0) == [late]
    assert "late.tif" in capsys.readouterr().err
    assert not list((tmp_path / "maps").glob("late*"))


def test_map_of_a_scene_that_changes_is_not_written(scenes, tmp_path):
    outputs = Outputs(tmp_path / "maps")
    with beam_blocks(RUNNER, scenes[1:], load(), load, outputs) as blocks_of:
        write_scene(scenes[1], 255 - noise(30, 60))
        with pytest.raises(InputError, match="small.tif or the networks have changed"):
            map_images(scenes[1:], load(), outputs, blocks_of=blocks_of, verbose=0)
    assert not list((tmp_path / "maps").glob("small*"))


def other_networks():
    """Loads other networks than `load`."""
    loaded = load()
    members = [
        dataclasses.replace(member, fingerprint=lambda: "other") for member in loaded.members
    ]
    return EnsemblePredictor(loaded.classes, members, loaded.average)


def test_workers_with_other_networks_are_refused(scenes, tmp_path):
    outputs = Outputs(tmp_path / "maps")
    with (
        beam_blocks(RUNNER, scenes[1:], load(), other_networks, outputs) as blocks_of,
        pytest.raises(InputError, match="the networks have changed"),
    ):
        map_images(scenes[1:], load(), outputs, blocks_of=blocks_of, verbose=0)


def test_invalid_outputs_raise_before_the_prediction(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(BeamRunner, "run", None)
    outputs = Outputs(tmp_path / "maps", ["disagreement"])
    single = ensemble_of(always(0))
    with (
        pytest.raises(InputError, match="'disagreement' only for two networks or more"),
        beam_blocks(RUNNER, scenes, single, load, outputs),
    ):
        pass
    assert not (tmp_path / "maps").exists()
