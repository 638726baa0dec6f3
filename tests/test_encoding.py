"""Text files are UTF-8 in every locale."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def calls_without_encoding(tree):
    """Yields the lines of calls that read or write text in the encoding of the locale."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        mode = next((a.value for a in node.args if getattr(a, "value", None) in set("rwax")), None)
        module = getattr(getattr(node.func, "value", None), "id", None)
        is_text = name == "open" and mode and module != "rasterio"
        if name in ("read_text", "write_text") or is_text:
            yield node.lineno


def test_every_text_file_is_utf8():
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for folder in ("lcc_tf", "tfds_deepglobe", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if not file.name.endswith("_test.py")
        for line in calls_without_encoding(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found
