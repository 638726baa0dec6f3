"""Checks of docstrings: the examples run, and the first lines are plain English."""

import ast
import doctest
import importlib
import io
import re
import tokenize
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import lcc_tf
from lcc_tf.data.demo_scenes import render_scene
from lcc_tf.models.encoders import ENCODERS
from tests.mapping.scenes import write_scene

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(ROOT.glob("lcc_tf/**/*.py"))
    if ">>> " in file.read_text()
]
# The example of this module takes 30 seconds. Faster tests of exports are in tests/exporting.
SLOW = {"lcc_tf.exporting.export"}


@pytest.mark.parametrize(
    "module",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MODULES],
)
def test_examples_of_a_module(module, tmp_path, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENCODERS, "mobilenetv2", ENCODERS["tiny"])  # several times faster
    write_scene(tmp_path / "scene.tif", render_scene(0, 0, 96)[0])
    module = importlib.import_module(module)
    names = {"keras": keras, "lcc_tf": lcc_tf, "np": np, "tf": tf} | vars(module)
    result = doctest.testmod(
        module, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.attempted > 0
    assert result.failed == 0


# First words of a docstring that often has no main clause
RIDDLES = (
    *("What ", "Which ", "Whether ", "How ", "That of ", "Those ", "Gives ", "One that "),
    *("Whatever ", "Where ", "If "),
)
# Phrases that are hard to read, or common words in a rare sense
UNCLEAR = re.compile(
    r"\b(those of|that of|the others\b(?! )|goes on|left out|leaves? out|held to|comes? along|"
    r"vanish\w*|want of|without a word|(is|are) there|holds?|(has|have) none|by `--|enlarge\w*|"
    r"missing pixels|no such)\b"
)
FILES = [
    *ROOT.glob("*.py"),
    *(
        file
        for folder in ("lcc_tf", "tfds_deepglobe", "tests", "benchmarks")
        for file in sorted(ROOT.glob(f"{folder}/**/*.py"))
    ),
]


def docstrings(file):
    """Yields the line number and the docstring of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_docstrings_open_with_a_verb_or_a_noun():
    riddles = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in FILES
        for line, text in docstrings(file)
        if text.startswith(RIDDLES)
    ]
    assert not riddles, "\n".join(riddles)


def prose(file):
    """Yields the number and the text of the lines with comments and docstrings, or of a page."""
    text = file.read_text()
    if file.suffix == ".md":
        lines = text.splitlines()
        code = np.cumsum([line.startswith("```") for line in lines]) % 2
        yield from ((n, line) for n, line in enumerate(lines, 1) if not code[n - 1])
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for line, docstring in docstrings(file):
        yield from ((line, part) for part in docstring.splitlines())


def test_prose_has_no_unclear_phrases():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tfds_deepglobe/*.md")]
    unclear = [
        f"{file.relative_to(ROOT)}:{line}: {text.strip()}"
        for file in [*FILES, *pages]
        if file != Path(__file__)
        for line, text in prose(file)
        if UNCLEAR.search(text)
    ]
    assert not unclear, "\n".join(unclear)


def test_docstrings_are_found():
    (_, module), *functions = docstrings(Path(__file__))
    assert module == __doc__
    assert len(functions) == 2
