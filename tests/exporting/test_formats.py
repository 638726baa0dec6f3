"""Tests of the command export.py with several formats.

Each format is written completely or not at all.
"""

import sys
from types import SimpleNamespace

import pytest

import export
from lcc_tf.errors import InputError
from lcc_tf.exporting.agreement import Agreement, AgreementError, ExportedFile
from lcc_tf.exporting.formats import FORMATS, writer
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.runs import Run, write_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture
def exported(tiny_config, tmp_path, monkeypatch):
    """Returns a function that runs the command.

    Stand-ins replace the functions that write the formats. The stand-in for ONNX raises an error.
    """
    run_folder = tmp_path / "run"
    write_run(Run(run_folder, tiny_config, DEEPGLOBE_CLASSES, None, 64.0), num_parameters=1)

    def write(source, output):
        (output / "model.json").touch()
        return [ExportedFile("model.json", 10**6, Agreement(1e-6, 0.9995, 1000))]

    def differ(source, output):
        (output / "model.onnx").touch()
        raise AgreementError("model.onnx differs")

    loaded = []

    def load(runs, weights, **options):
        loaded.append(options)
        return SimpleNamespace(samples="procedural scenes")

    monkeypatch.setitem(FORMATS, "savedmodel", {"model.json"})
    monkeypatch.setattr(
        "lcc_tf.exporting.export.writer", lambda name: differ if name == "onnx" else write
    )
    monkeypatch.setattr(SourceModel, "from_runs", load)

    def run(*arguments):
        output = ["--output", str(tmp_path / "exported")]
        monkeypatch.setattr(
            sys, "argv", ["export.py", "--runs", str(run_folder), *output, *arguments]
        )
        with pytest.raises(SystemExit) as end:
            export.main()
        return end.value.code, loaded, tmp_path / "exported"

    return run


def test_other_formats_are_written_if_one_format_differs(exported, capsys):
    code, _, folder = exported("--format", "onnx", "litert")
    assert code == 1
    assert [path.name for path in folder.iterdir()] == ["litert"]
    out, err = capsys.readouterr()
    assert "onnx was not written: model.onnx differs" in err
    assert len(err.splitlines()) == 1
    line = "litert/model.json, 1.0 MB: same class as Keras on 99.950 % of 1,000 pixels"
    assert line in out
    assert "procedural scenes" in out


def test_no_run_is_loaded_if_a_format_already_exists(exported, capsys):
    code, loaded, folder = exported("--format", "litert", "--tile", "64", "--resolution", "2")
    assert code == 0
    assert loaded == [{"average": "probabilities", "tile": 64, "resolution": 2.0}]
    assert exported("--format", "savedmodel", "litert")[0] == 2
    error = capsys.readouterr().err
    assert "litert already exists" in error
    assert "--overwrite" in error
    assert len(loaded) == 1
    assert [path.name for path in folder.iterdir()] == ["litert"]
    assert exported("--format", "savedmodel", "litert", "--overwrite")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["litert", "savedmodel"]


def test_unknown_format_raises():
    with pytest.raises(InputError, match="Unknown `format`.*'coreml'.*'savedmodel'"):
        writer("coreml")


@pytest.mark.parametrize(("name", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")])
def test_error_names_the_missing_package_and_how_to_install_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    match = rf"files need {package.replace('_', '-')}, which is not.*pip install 'lcc_tf\[export\]'"
    with pytest.raises(InputError, match=match):
        writer(name)
