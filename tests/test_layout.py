"""Checks of the imports between the folders of `lcc_tf`: no two folders may import each other.

Each folder and each module directly in `lcc_tf` has a rank in `RANKS`. A module may import only
modules of the same folder and modules with lower ranks.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RANKS = [
    {"errors"},
    {
        "arguments",
        "class_weights",
        "devices",
        "files",
        "ground_truth",
        "keras_backend",
        "reflect_padding",
    },
    {"band_names", "confusion_matrix", "figures", "loss_functions"},
    {"bands"},
    {"losses", "metrics", "range_check"},
    {"data", "models"},  # below "config", because both accept plain arguments, not a configuration
    {"config"},
    {"recipes", "runs"},
    {"prediction"},
    {"exporting", "mapping", "scoring", "training"},
    # "torch_runs" writes run folders with the functions of training. "tiles" reads polygons and
    # scenes with the functions of mapping.
    {"torch_runs", "tiles"},
    {"cli"},
    {"lcc_tf"},  # lcc_tf/__init__.py: the public names
]
RANK = {folder: rank for rank, folders in enumerate(RANKS) for folder in folders}
# Modules for use without a data set, which therefore must not import `tfds_deepglobe`
WITHOUT_DATASET = {
    "arguments",
    "errors",
    "files",
    "ground_truth",
    "keras_backend",
    "reflect_padding",
} | {"band_names", "bands"}
WITHOUT_DATASET |= {
    *("class_weights", "confusion_matrix", "loss_functions", "losses", "metrics", "models")
}
SCRIPTS = {file.stem for file in ROOT.glob("*.py")}


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(file): file
    for package in ("lcc_tf", "tfds_deepglobe")
    for file in sorted(ROOT.glob(f"{package}/**/*.py"))
}


def imports(module):
    """Yields the modules that a module imports, at the top of the file or inside functions."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                # Every module may import the version, which is a constant.
                if name != "lcc_tf.__version__":
                    yield name if name in MODULES else node.module


def folder(module):
    """Returns the folder of `lcc_tf` that contains a module; None for other packages."""
    package, *parts = module.split(".")
    if package == "lcc_tf":
        return parts[0] if parts else package
    return None


IMPORTS = {(module, target) for module in MODULES for target in imports(module)}


def listed(pairs):
    return sorted(f"{module} imports {target}" for module, target in pairs)


def test_every_folder_has_a_rank():
    assert {folder(module) for module in MODULES} - {None} == set(RANK)


def test_imports_are_found():
    assert ("lcc_tf.cli.train", "lcc_tf.training.train") in IMPORTS  # inside a function
    assert ("lcc_tf.models.unetpp", "lcc_tf.models.blocks") in IMPORTS
    assert ("tfds_deepglobe.prepare", "tfds_deepglobe.archive") in IMPORTS


@pytest.mark.parametrize("name", sorted(RANK))
def test_folder_imports_only_lower_ranks(name):
    assert not listed(
        (module, target)
        for module, target in IMPORTS
        if folder(module) == name and folder(target) not in (name, None)
        if RANK[folder(target)] >= RANK[name]
    )


def test_imports_form_no_circle():
    graph = {module: set() for module in MODULES}
    for module, target in IMPORTS:
        if target in MODULES:
            graph[module].add(target)
    TopologicalSorter(graph).prepare()  # raises an error that names the circle


def test_dataset_package_imports_nothing_of_lcc_tf():
    assert not listed(
        (module, target)
        for module, target in IMPORTS
        if module.startswith("tfds_deepglobe") and target.startswith("lcc_tf")
    )


def test_networks_losses_and_metrics_do_not_import_the_dataset_package():
    assert not listed(
        (module, target)
        for module, target in IMPORTS
        if folder(module) in WITHOUT_DATASET and target.startswith("tfds_deepglobe")
    )


def test_no_module_imports_a_script_or_a_command():
    assert {"train", "evaluate", "predict", "export", "import_torch"} <= SCRIPTS
    assert not listed(
        (module, target)
        for module, target in IMPORTS
        if target.split(".")[0] in SCRIPTS or (folder(target) == "cli" and folder(module) != "cli")
    )
