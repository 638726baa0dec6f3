"""Class tables in files: `class_dict.csv`, `labelmap.txt` of CVAT, and JSON of Supervisely."""

import codecs
import csv
import io
import json
import posixpath
import re
from collections.abc import Sequence

from tfds_deepglobe.classes import RGB, ClassTable
from tfds_deepglobe.errors import InputError, shorten

TABLE = "class_dict.csv"
# Names of files with class tables. If an archive contains several of them, the first name in this
# tuple is used.
TABLE_FILES = (TABLE, "labelmap.txt", "classes.json", "meta.json")
# Bytes of the largest class table that is read. JSON files of Supervisely can be large, because
# they also contain tags.
MAX_SIZE = 10_000_000
# Key: accepted name of a column. Value: standard name of the column.
_COLUMNS = {
    **dict.fromkeys(("name", "class", "label", "class_name"), "name"),
    **dict.fromkeys(("r", "red"), "r"),
    **dict.fromkeys(("g", "green"), "g"),
    **dict.fromkeys(("b", "blue"), "b"),
    **dict.fromkeys(("id", "value", "class_id", "index"), "id"),
    **dict.fromkeys(("hex", "color", "colour"), "hex"),
}
# Columns that define the color of a class in the masks
_COLORS = (("r", "g", "b"), ("hex",), ("id",))
_EXPECTED = "Expected: name,r,g,b or name,id or name,hex."


class NoClassTableError(InputError):
    """An error for a JSON file with other content than a class table."""


def read_class_table(name: str, content: bytes) -> ClassTable:
    r"""Reads a class table.

    Args:
        name: name of the file. The format depends on the name:

            - `labelmap.txt`: lines such as `water:0,0,255::`, as CVAT writes them.
            - `*.json`: a list `classes` with `title` (or `name`) and `color`, such as "#0000FF", as
              Supervisely writes them.
            - other names: CSV with a header. The separator is a comma, a semicolon or a tab. The
              encoding is UTF-8, or UTF-16 with a byte order mark. The columns, in any order, are
              `name`, and the color in one of three forms: `r`, `g` and `b`; or `hex`, such as
              "#0000FF"; or `id`, the value in gray masks.

        content: content of the file. The rows are in the order of the class ids.

    Raises:
        InputError: one of these reasons:

            - The file is not text.
            - A column is missing or exists twice.
            - A row does not define a class.
            - The class table is not valid.

    Example:
        >>> read_class_table("class_dict.csv", b"name,r,g,b\nland,0,255,0\nwater,0,0,255\n").names
        ('land', 'water')
    """
    base = posixpath.basename(name).lower()
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
        if "\0" in text:  # UTF-16 without a byte order mark, or no text
            raise ValueError("it contains null characters")
    except ValueError as error:
        raise InputError(
            f"{base} is not a text file in UTF-8: {error}. Save it as UTF-8."
        ) from error
    read = _from_json if base.endswith(".json") else _from_csv
    classes = (_from_labelmap if base == "labelmap.txt" else read)(text, base)
    if not classes:
        raise InputError(f"{base} has no class. Add one row per class.")
    names, palette = zip(*classes, strict=True)
    return ClassTable(names, palette)


def _from_csv(text: str, base: str) -> list[tuple[str, RGB]]:
    # Some spreadsheets write a first line such as "sep=;".
    table = re.sub(r"^[ \r\n]*(sep=.[ \r\n]*)?", "", text)
    skipped, text = len(text[: len(text) - len(table)].splitlines()), table
    separator = max(",;\t", key=re.split(r"[\r\n]", text)[0].count)
    # `newline=None` translates the line ends of old Macs, "\r", which `csv` does not accept.
    lines = csv.reader(io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True)
    try:
        # Spreadsheets write rows without content at the end.
        rows = [(lines.line_num + skipped, row) for row in lines if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(
            f"{base}, line {lines.line_num + skipped}: {error}. {_EXPECTED}"
        ) from error
    header = [column.strip().lower() for column in rows[0][1]] if rows else []
    columns = [_COLUMNS.get(column, column) for column in header]
    present = [colors for colors in _COLORS if set(colors) <= set(columns)]
    used = ("name", *(present or _COLORS)[0])
    for fault, wrong in (
        ("must contain the columns", [c for c in used if c not in columns]),
        ("must not repeat the columns", [c for c in used if columns.count(c) > 1]),
    ):
        if wrong:
            raise InputError(
                f"{base} {fault} {', '.join(wrong)}. {_EXPECTED} "
                f"Received: {shorten(','.join(header), 80) or 'an empty file'}."
            )
    classes = []
    for line, row in rows[1:]:
        try:
            if any(map(str.strip, row[len(columns) :])):
                raise ValueError("more fields than columns, such as a comma in the name")
            name, *color = (row[columns.index(column)].strip() for column in used)
            rgb = _from_hex(color[0]) if used[-1] == "hex" else _from_numbers(color)
            classes.append((name, rgb))
        except (IndexError, ValueError):  # too few fields, too many, or not a color
            what = {"hex": "a color such as #0000FF", "id": "a number"}.get(used[-1])
            raise InputError(
                f"{base}, line {line}: expected a name and {what or 'three numbers'}. "
                f"Received: {shorten(str(row), 80)}."
            ) from None
    return classes


def _from_labelmap(text: str, base: str) -> list[tuple[str, RGB]]:
    classes = []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        try:
            name, color, *_ = content.split(":")
            classes.append((name.strip(), _from_numbers(color.split(","))))
        except ValueError:
            raise InputError(
                f"{base}, line {line}: expected a line such as water:0,0,255:: . "
                f"Received: {shorten(content, 80)}."
            ) from None
    return classes


def _from_json(text: str, base: str) -> list[tuple[str, RGB]]:
    expected = (
        "Expected: a list `classes` with `title` and `color`, such as "
        '{"classes": [{"title": "water", "color": "#0000FF"}]}.'
    )
    try:
        content = json.loads(text)
        rows = content["classes"] if isinstance(content, dict) else content
        names = [row["title"] if "title" in row else row["name"] for row in rows]
        colors = [row["color"] for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoClassTableError(
            f"{base} is not a class table: {error!r:.80}. {expected}"
        ) from error
    try:
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a name is not text")
        return [
            (name, _from_hex(color) if isinstance(color, str) else _from_numbers(color))
            for name, color in zip(names, colors, strict=True)
        ]
    except (ValueError, TypeError) as error:
        raise InputError(f"{base} is not a valid class table: {error}. {expected}") from error


def _from_hex(text: str) -> RGB:
    """Converts a color such as "#0000FF"."""
    match = re.fullmatch(r"#?([0-9a-fA-F]{6})", text.strip())
    if match is None:
        raise ValueError(f"not a color: {shorten(text, 40)}")
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue


def _from_numbers(numbers: Sequence[str | int]) -> RGB:
    """Converts red, green and blue, or one number for gray."""
    if any(isinstance(number, float) for number in numbers):
        raise ValueError(f"not whole numbers: {numbers}")
    red, green, blue = [int(number) for number in numbers] * (3 if len(numbers) == 1 else 1)
    return red, green, blue
