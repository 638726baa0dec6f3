"""The script: several formats in one call, each there whole or not at all."""

import sys
from types import SimpleNamespace

import pytest

import export
import lcc_tf.exporting
from lcc_tf.errors import InputError
from lcc_tf.exporting import Agreement, DeviationError, ExportedFile


@pytest.fixture
def exported(runs, tmp_path, monkeypatch):
    """Runs the script with formats that are written at once; ONNX deviates."""

    def write(original, output):
        (output / "model.json").touch()
        return [ExportedFile("model.json", 10**6, Agreement(1e-6, 0.9995, 1000))]

    def deviate(original, output):
        (output / "model.onnx").touch()
        raise DeviationError("model.onnx deviates")

    loaded = []

    def load(runs, weights, **options):
        loaded.append(options)
        return SimpleNamespace(samples="procedural scenes")

    monkeypatch.setitem(export.HOLDS, "savedmodel", {"model.json"})
    monkeypatch.setattr(
        lcc_tf.exporting, "EXPORTS", {"savedmodel": write, "onnx": deviate, "litert": write}
    )
    monkeypatch.setattr(lcc_tf.exporting, "load_original", load)

    def run(*arguments):
        output = ["--output", str(tmp_path / "exported")]
        monkeypatch.setattr(
            sys, "argv", ["export.py", "--runs", str(runs / "unetpp"), *output, *arguments]
        )
        return export.main(), loaded, tmp_path / "exported"

    return run


def test_what_deviates_is_left_out_and_the_others_go_on(exported, capsys):
    code, _, folder = exported("--format", "onnx", "litert")
    assert code == 1
    assert [path.name for path in folder.iterdir()] == ["litert"]
    out, err = capsys.readouterr()
    assert "onnx was not written: model.onnx deviates" in err
    assert len(err.splitlines()) == 1
    line = "litert/model.json, 1.0 MB: same class as Keras on 99.950 % of 1,000 pixels"
    assert line in out
    assert "procedural scenes" in out


def test_nothing_is_loaded_where_one_format_is_there_already(exported):
    code, loaded, folder = exported("--format", "litert", "--tile", "64", "--resolution", "2")
    assert code == 0
    assert loaded == [{"average": "probabilities", "tile": 64, "resolution": 2.0}]
    with pytest.raises(InputError, match="litert exists already.*--overwrite"):
        exported("--format", "savedmodel", "litert")
    assert len(loaded) == 1
    assert [path.name for path in folder.iterdir()] == ["litert"]
    assert exported("--format", "savedmodel", "litert", "--overwrite")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["litert", "savedmodel"]
