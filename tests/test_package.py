"""Installation and import of the package: names, metadata, wheel and missing packages."""

import importlib
import json
import subprocess
import sys
import tomllib
import types
import zipfile
from email import message_from_bytes
from pathlib import Path

import hatchling.build
import numpy as np
import pytest

import lcc_tf
from lcc_tf.errors import InputError, InstallationError, require_extra
from lcc_tf.losses import Dice, Focal
from lcc_tf.metrics import ImagewiseScore, MeanIoU, PixelAccuracy
from lcc_tf.models import DeepLabV3Plus

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = ("train", "evaluate", "predict", "export", "import-torch", "data", "tiles")


def python(code, *arguments):
    """Runs Python code in a new process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


# Names


@pytest.mark.parametrize("name", lcc_tf.__all__)
def test_public_name_resolves(name):
    assert getattr(lcc_tf, name) is not None
    assert name in dir(lcc_tf)


def test_unknown_name_raises():
    with pytest.raises(AttributeError, match="'lcc_tf' has no attribute 'unetpp'"):
        _ = lcc_tf.unetpp


def test_import_changes_nothing_in_the_process():
    result = python(
        """
import os, sys, warnings
before = dict(os.environ), list(sys.path), list(warnings.filters)
import lcc_tf
assert (dict(os.environ), sys.path, warnings.filters) == before
heavy = {"tensorflow", "keras", "tensorflow_datasets", "numpy", "rasterio"} & set(sys.modules)
assert not heavy, heavy
lcc_tf.InputError, lcc_tf.ClassTable
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    )
    assert result.returncode == 0, result.stderr
    assert not result.stdout


# Keras with another backend


@pytest.fixture
def import_check(monkeypatch):
    """Function that imports `lcc_tf.keras_backend` again, as if Keras was not imported yet."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delitem(sys.modules, "lcc_tf.keras_backend")
    return lambda: importlib.import_module("lcc_tf.keras_backend")


def test_other_backend_in_keras_configuration_raises(import_check, monkeypatch, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(InstallationError, match="is configured for the backend 'torch'"):
        import_check()


def test_other_imported_backend_raises(import_check, monkeypatch):
    # Keras with JAX is not installed. Therefore replace Keras by an object that returns "jax".
    config = types.SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(config=config))
    with pytest.raises(InstallationError, match="is already imported with the backend 'jax'"):
        import_check()


# Missing extras


@pytest.mark.parametrize(
    ("extra", "module", "purpose"),
    [
        ("maps", "rasterio", "Maps need"),
        ("export", "tf2onnx", "ONNX and LiteRT files need"),
        ("baselines", "segmentation_models", "`unet`, `fpn`, `linknet` and `pspnet` need"),
    ],
)
def test_missing_extra_raises(extra, module, purpose, monkeypatch):
    require_extra(extra)  # all extras are installed
    monkeypatch.setitem(sys.modules, module, None)  # Python treats the module as not installed
    with pytest.raises(InstallationError) as error:
        require_extra(extra)
    assert isinstance(error.value, InputError)
    assert isinstance(error.value, ImportError)
    assert str(error.value) == (
        f"{purpose} {module.replace('_', '-')}, which is not installed. "
        f"Run: pip install 'lcc_tf[{extra}]'"
    )


@pytest.mark.parametrize(
    ("command", "options", "module", "extra"),
    [
        ("predict", ["--input", "scene.tif"], "rasterio", "maps"),
        ("export", ["--format", "savedmodel", "onnx"], "onnxruntime", "export"),
        ("export", ["--format", "litert"], "ai_edge_litert", "export"),
    ],
)
def test_command_names_the_missing_extra_in_one_line(
    command, options, module, extra, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", [command, *options])
    with pytest.raises(SystemExit) as exit:
        importlib.import_module(f"lcc_tf.cli.{command}").main()
    assert exit.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"which is not installed. Run: pip install 'lcc_tf[{extra}]'")


# One process for several tests, because the import of TensorFlow takes seconds
PROCESS = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[1])
missing = "rasterio", "pyogrio", "pyproj", "onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"
for module in missing:
    sys.modules[module] = None
facts = {"errors with JAX": []}

import lcc_tf
os.environ["KERAS_BACKEND"] = "jax"
for name in ("models", "losses", "metrics", "evaluate", "predict_tiled"):
    try:
        getattr(lcc_tf, name)
    except lcc_tf.InstallationError as error:
        facts["errors with JAX"].append(str(error))
del os.environ["KERAS_BACKEND"]
# From here, the process is like a new process.
for module in [name for name in sys.modules if name.startswith(("lcc_tf", "keras"))]:
    del sys.modules[module]

import keras
import lcc_tf
names = ("MeanIoU", "CrossEntropyDice", "EncoderPreprocessing")
facts["registered"] = [
    keras.saving.get_registered_object(f"lcc_tf>{name}") is not None for name in names
]

import numpy as np
model = keras.saving.load_model(folder / "model.keras")
np.save(folder / "logits.npy", model(np.load(folder / "images.npy")))
metrics = [metric["class_name"] for metric in model.get_compile_config()["metrics"]]
facts["loaded model"] = [model.compiled, type(model.loss).__name__, metrics]

from lcc_tf import *
facts["has map_scene"] = hasattr(lcc_tf, "map_scene")
try:
    map_scene("model", "scene.tif", "maps", classes=None)
except lcc_tf.InstallationError as error:
    facts["error of map_scene"] = str(error)

from lcc_tf.exporting.export import export
from lcc_tf.exporting.formats import writer
from lcc_tf.exporting.savedmodel import load_savedmodel
from tfds_deepglobe.classes import ClassTable
facts["writer"] = writer("savedmodel").__name__
image = keras.Input((None, None, 3))
model = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
classes = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))
export(model, folder, format="savedmodel", classes=classes, tile=32)
facts["tile"] = load_savedmodel(folder / "savedmodel").tile
(folder / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def compiled_model():
    """DeepLabV3+ after one training step."""
    model = DeepLabV3Plus(3, encoder="tiny", encoder_weights=None)
    loss = 0.5 * Dice(ignore_class=255) + Focal(ignore_class=255, class_weights=(1, 2, 3))
    scores = [MeanIoU(3), PixelAccuracy(3), ImagewiseScore("iou", 3)]
    model.compile("adam", loss=loss, metrics=scores, run_eagerly=True)
    model.train_on_batch(np.ones((2, 32, 32, 3)), np.ones((2, 32, 32)))
    return model


@pytest.fixture(scope="module")
def process(compiled_model, tmp_path_factory):
    """The folder of a process that first fails with JAX and then imports Keras and `lcc_tf`.

    The process has no extras. It loads a compiled model and exports another model.
    """
    folder = tmp_path_factory.mktemp("process")
    compiled_model.save(folder / "model.keras")
    np.save(folder / "images.npy", np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)))
    result = python(PROCESS, folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def facts(process):
    return json.loads((process / "facts.json").read_text())


def test_names_raise_with_another_configured_backend(facts):
    message = (
        "lcc_tf needs Keras with the TensorFlow backend. "
        "Received: Keras is configured for the backend 'jax'. "
        "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
    )
    assert facts["errors with JAX"] == [message] * 5


def test_import_after_keras_registers_the_classes(facts):
    assert facts["registered"] == [True, True, True]


def test_compiled_model_loads_in_a_new_process(process, facts, compiled_model):
    metrics = ["MeanIoU", "PixelAccuracy", "ImagewiseScore"]
    assert facts["loaded model"] == [True, "LossSum", metrics]
    expected = compiled_model(np.load(process / "images.npy"))
    np.testing.assert_allclose(np.load(process / "logits.npy"), expected, atol=1e-5)


def test_mapping_without_its_extra_raises_when_called(facts):
    assert facts["has map_scene"]
    assert facts["error of map_scene"] == (
        "Maps need rasterio, pyogrio, pyproj, which are not installed. "
        "Run: pip install 'lcc_tf[maps]'"
    )


def test_savedmodel_needs_no_extra(facts):
    assert facts["writer"] == "export_savedmodel"
    assert facts["tile"] == 32


def test_other_import_errors_are_raised_at_once(monkeypatch):
    monkeypatch.delitem(vars(lcc_tf), "map_scene", raising=False)
    # The import of this module raises an ImportError that does not concern an extra.
    monkeypatch.setitem(sys.modules, "lcc_tf.mapping.map_scene", None)
    with pytest.raises(ImportError, match="lcc_tf.mapping.map_scene"):
        _ = lcc_tf.map_scene


# Distribution


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that `pip install <checkout>` builds, as an open zip file."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # build backends run in the root of the project
        name = hatchling.build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        yield archive


def test_version_is_the_same_in_all_files(wheel):
    assert "version" not in PROJECT
    metadata = message_from_bytes(wheel.read(f"lcc_tf-{lcc_tf.__version__}.dist-info/METADATA"))
    assert metadata["Version"] == lcc_tf.__version__
    assert f"## {lcc_tf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {lcc_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheel_contains_both_packages_and_no_tests(wheel):
    names = wheel.namelist()
    files = {
        *("py.typed", "README.md", "CITATIONS.bib", "TAGS.txt", "deepglobe_dataset_builder.py"),
    }
    assert {f"tfds_deepglobe/{file}" for file in files} <= set(names)
    modules = {str(file.relative_to(ROOT)) for file in ROOT.glob("lcc_tf/**/*.py")}
    assert modules | {"lcc_tf/py.typed"} == {name for name in names if name.startswith("lcc_tf/")}
    assert f"lcc_tf-{lcc_tf.__version__}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if name.endswith("_test.py")]
    assert {name.split("/")[0] for name in names} == {
        *("lcc_tf", "tfds_deepglobe", f"lcc_tf-{lcc_tf.__version__}.dist-info")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_command_shows_help_without_slow_imports(command):
    module, function = PROJECT["scripts"][f"lcc-{command}"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    result = python(
        f"""
import atexit, sys
atexit.register(lambda: print("imported:", {{"tensorflow", "keras"}} & set(sys.modules)))
sys.argv = ["lcc-{command}", "--help"]
from {module} import {function}
{function}()
"""
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage:")
    assert result.stdout.endswith("imported: set()\n")


def test_every_command_is_tested():
    assert set(PROJECT["scripts"]) == {f"lcc-{command}" for command in COMMANDS}


def test_requirements_pin_the_lower_bounds_of_the_distribution():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {line.split("#")[0].strip() for line in lines} - {""}
    needed = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    bounds = {
        requirement.replace(">=", "==")
        for requirement in needed
        if not requirement.startswith(("lcc_tf[", "tensorflow["))
    }
    assert bounds == pins
