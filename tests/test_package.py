"""The package as users install and import it: names, metadata, wheel and missing packages."""

import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from importlib import import_module
from pathlib import Path

import hatchling.build
import pytest

import lcc_tf
from lcc_tf.errors import InputError, InstallationError, require_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = ("train", "evaluate", "predict", "export", "import-torch", "data")


def python(code, **variables):
    """Runs Python code in a new process with these environment variables added."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that `pip install <checkout>` builds, opened."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where a build backend is run
        name = hatchling.build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        yield archive


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


def test_import_after_keras_registers_the_classes():
    result = python(
        """
import sys
import keras, lcc_tf
assert {"lcc_tf.losses", "lcc_tf.metrics", "lcc_tf.models"} <= set(sys.modules)
"""
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["models", "losses", "metrics", "evaluate", "predict_tiled"])
def test_other_backend_raises(name):
    result = python(f"import lcc_tf\nlcc_tf.{name}", KERAS_BACKEND="jax")
    assert result.stderr.splitlines()[-1] == (
        "lcc_tf.errors.InstallationError: lcc_tf needs Keras with the TensorFlow backend. "
        "Received: Keras is configured for the backend 'jax'. "
        "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
    )


def test_other_backend_in_keras_configuration_raises(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    result = python("from lcc_tf.losses import LOSS_TERMS", KERAS_HOME=str(tmp_path))
    assert "configured for the backend 'torch'" in result.stderr.splitlines()[-1]


def test_other_backend_already_imported_raises():
    result = python(
        """
import sys, types
# In the place of Keras on JAX, which the tests have not.
config = types.SimpleNamespace(backend=lambda: "jax")
sys.modules["keras"] = types.SimpleNamespace(config=config)
import lcc_tf
""",
        KERAS_BACKEND="tensorflow",
    )
    assert "Received: Keras is already imported with the backend 'jax'." in result.stderr


@pytest.mark.parametrize(
    ("extra", "module", "purpose"),
    [
        ("maps", "rasterio", "Maps need"),
        ("export", "tf2onnx", "ONNX and LiteRT files need"),
        ("baselines", "segmentation_models", "`unet`, `fpn`, `linknet` and `pspnet` need"),
    ],
)
def test_missing_extra_raises(extra, module, purpose, monkeypatch):
    require_extra(extra)  # all are installed
    monkeypatch.setitem(sys.modules, module, None)  # which makes Python take it for not installed
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
def test_command_names_the_missing_extra_in_one_line(command, options, module, extra):
    result = python(
        f"""
import sys
sys.modules[{module!r}] = None
sys.argv[1:] = {options}
from lcc_tf.cli.{command} import main
main()
"""
    )
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"which is not installed. Run: pip install 'lcc_tf[{extra}]'")


def test_savedmodel_needs_no_extra():
    result = python(
        """
import sys
for module in ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"):
    sys.modules[module] = None
from lcc_tf.exporting.formats import writer
writer("savedmodel")
"""
    )
    assert result.returncode == 0, result.stderr


def test_mapping_names_the_missing_extra():
    result = python(
        """
import sys
sys.modules["rasterio"] = None
import lcc_tf
from lcc_tf import *
assert hasattr(lcc_tf, "map_scene")
map_scene("model", "scene.tif", "maps", classes=None)
"""
    )
    assert result.stderr.splitlines()[-1] == (
        "lcc_tf.errors.InstallationError: Maps need rasterio, which is not installed. "
        "Run: pip install 'lcc_tf[maps]'"
    )


def test_version_is_in_one_place(wheel):
    assert "version" not in PROJECT
    metadata = message_from_bytes(wheel.read(f"lcc_tf-{lcc_tf.__version__}.dist-info/METADATA"))
    assert metadata["Version"] == lcc_tf.__version__
    assert f"## {lcc_tf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {lcc_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheel_has_both_packages_and_no_tests(wheel):
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
    assert callable(getattr(import_module(module), function))
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


def test_requirements_pin_what_the_distribution_needs():
    """Each lower bound in pyproject.toml is the version pinned in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {line.split("#")[0].strip() for line in lines} - {""}
    needed = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    bounds = {
        requirement.replace(">=", "==")
        for requirement in needed
        if not requirement.startswith(("lcc_tf[", "tensorflow["))
    }
    assert bounds == pins


@pytest.mark.parametrize("imports", ["import keras\nimport lcc_tf", "import lcc_tf.models"])
def test_classes_are_registered_for_loading(imports):
    result = python(
        f"""
{imports}
import keras
assert keras.saving.get_registered_object("lcc_tf>MeanIoU")
assert keras.saving.get_registered_object("lcc_tf>CrossEntropyDice")
assert keras.saving.get_registered_object("lcc_tf>EncoderPreprocessing")
"""
    )
    assert result.returncode == 0, result.stderr
