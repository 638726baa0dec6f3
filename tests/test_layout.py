"""Which module may import which: the arrows of the design go one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted(ROOT.glob("lcc_tf/**/*.py"))
DATASET = sorted(ROOT.glob("tfds_deepglobe/**/*.py"))
# Those that are handed plain arguments, and know neither data nor configuration.
PURE_FILES = ("losses.py", "metrics.py", "optimizer.py", "protocols.py")
PURE = [f for f in LIBRARY if f.parent.name == "models" or f.name in PURE_FILES]


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module


def offences(files, *forbidden):
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        if name.startswith(forbidden)
    ]


def test_there_is_something_to_check():
    assert len(LIBRARY) > 15
    assert len(DATASET) > 5
    assert len(PURE) > 7
    assert "lcc_tf.models" in set(imports(ROOT / "lcc_tf" / "training" / "train.py"))


def test_data_set_stands_alone():
    assert not offences(DATASET, "lcc_tf")


def test_nothing_imports_a_script():
    assert not offences(LIBRARY + DATASET, "train", "evaluate", "predict", "export", "import_torch")


def test_models_losses_and_metrics_know_neither_data_nor_configuration():
    assert not offences(
        PURE, "lcc_tf.data", "lcc_tf.config", "lcc_tf.training", "lcc_tf.scoring.evaluate"
    )


def test_data_knows_no_model_and_no_configuration():
    data = [file for file in LIBRARY if file.parent.name == "data"]
    assert not offences(data, "lcc_tf.models", "lcc_tf.config", "lcc_tf.losses")


@pytest.mark.parametrize(
    "script", ["train.py", "evaluate.py", "predict.py", "export.py", "import_torch.py"]
)
def test_scripts_show_help_without_loading_tensorflow(script):
    top_level = ast.parse((ROOT / "lcc_tf" / "cli" / script).read_text()).body
    names = {
        name
        for node in top_level
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
    }
    assert names <= {
        *("lcc_tf.files", "lcc_tf.cli.options", "lcc_tf.config", "pathlib", "typing"),
        "tfds_deepglobe.tensorflow_import",
    }
