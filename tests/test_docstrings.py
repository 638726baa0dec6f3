"""Runs the examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import lcc_tf
from lcc_tf.data.demo import render_scene
from tests.mapping.scenes import write_scene

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(ROOT.glob("lcc_tf/**/*.py"))
    if ">>> " in file.read_text()
]
# Half a minute; tests/exporting and the README's example export small models.
SLOW = {"lcc_tf.exporting.export"}


@pytest.mark.parametrize(
    "module",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MODULES],
)
def test_examples_of_a_module(module, tmp_path, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "scene.tif", render_scene(0, 0, 96)[0])
    module = importlib.import_module(module)
    names = {"keras": keras, "lcc_tf": lcc_tf, "np": np, "tf": tf} | vars(module)
    result = doctest.testmod(
        module, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.attempted > 0
    assert result.failed == 0
