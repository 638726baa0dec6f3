"""Relabeling: training on other classes than the class table of the masks."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tfds_deepglobe.classes import MAX_CLASSES, RGB, VOID_ID, ClassTable
from tfds_deepglobe.errors import InputError, shorten


@dataclasses.dataclass(frozen=True)
class Relabeling:
    """Conversion of the class ids of the masks to the class ids for training.

    Attributes:
        classes: classes for training.
        ids: for each class id of the masks, the class id for training, or `VOID_ID`. The last
            element is `VOID_ID`, for void colors that are not in the class table.

    Example:
        >>> classes = ClassTable(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
        >>> relabeling, _ = relabel(classes, {}, merge=["d=a+c"])
        >>> relabeling.classes.names, relabeling.ids
        (('d', 'b'), (0, 1, 0, 255))
    """

    classes: ClassTable
    ids: tuple[int, ...]

    def __call__(self, class_ids: np.ndarray) -> np.ndarray:
        """Converts the class ids of a mask, uint8 `(height, width)`."""
        return np.array(self.ids, np.uint8)[class_ids]


def relabel(
    classes: ClassTable,
    color_map: Mapping[RGB, int],
    *,
    merge: Sequence[str] = (),
    void: Sequence[str] = (),
) -> tuple[Relabeling | None, dict[RGB, int]]:
    """Merges classes, and removes void classes.

    Args:
        classes: class table of the masks.
        color_map: key: additional color, which is not in the class table. Value: class id.
        merge: texts such as "urban=building+road". The new class has the position and the color of
            the first old class in the text.
        void: names of classes, values of gray masks such as "255", or colors such as "255,0,0".
            Their pixels have no ground truth. Losses and scores ignore these pixels.

    Returns:
        The relabeling, or None if no class changes, and `color_map` with the additional void
        colors.

    Raises:
        InputError: A text is invalid, a class does not exist or is in two texts, or no class
            remains.
    """
    colors = dict(color_map)
    group_of = {class_id: class_id for class_id in range(classes.num_classes)}
    names = list(classes.names)
    merged: set[int] = set()
    for text in merge:
        name, separator, members = text.partition("=")
        ids = [classes.class_id(member.strip()) for member in members.split("+")]
        if not separator or not name.strip() or len(ids) < 2 or merged & {*ids}:
            raise InputError(
                "`merge` needs NEW=A+B with the names of at least two classes, each of which is "
                f"merged once. Received: merge={shorten(text)}."
            )
        if len({*ids}) < len(ids):
            raise InputError(f"`merge={shorten(text)}` contains a class twice. Delete one of them.")
        merged |= {*ids}
        names[ids[0]] = name.strip()
        group_of |= dict.fromkeys(ids, ids[0])
    new_names = {name for name, old in zip(names, classes.names, strict=True) if name != old}
    removed = set()
    for text in void:
        color = _gray_or_color(text)
        if color is None and text in new_names:
            raise InputError(f"`void={text}` is the name of a merged class. Do not merge it.")
        if color in color_map:
            raise InputError(f"The color {color} is in `map_color` and `void`. Delete one.")
        if color and text in classes.names and classes.palette[classes.names.index(text)] != color:
            raise InputError(
                f"`void={text}` is the name of a class and a value of the masks. Rename the class."
            )
        if color is None:
            removed.add(classes.class_id(text))
        elif color in classes.palette:
            removed.add(classes.palette.index(color))
        else:
            if classes.num_classes == MAX_CLASSES:
                raise InputError(f"`void={text}` needs a class table with less than 255 classes.")
            if classes.is_binarized and not set(color) <= {0, 255}:
                row = ",".join(map(str, color))
                raise InputError(
                    f"`void={text}` needs a row in the class table, because all its colors consist "
                    f"of 0 and 255: add the row void,{row}, and use `void=void`."
                )
            colors[color] = classes.num_classes
    if not merge and not void:
        return None, colors
    if both := removed & merged:
        raise InputError(
            f"The class {classes.names[min(both)]} is in `merge` and in `void`. Delete one of them."
        )
    kept = [i for i, group in group_of.items() if i == group and i not in removed]
    if len(kept) < 2:
        raise InputError(
            f"At least two classes must remain. Received: {len(kept)} after `merge` and `void`."
        )
    ids = [VOID_ID if i in removed else kept.index(group) for i, group in group_of.items()]
    table = ClassTable(tuple(names[i] for i in kept), tuple(classes.palette[i] for i in kept))
    return Relabeling(table, (*ids, VOID_ID)), colors


def _gray_or_color(text: str) -> RGB | None:
    """Returns the color in a text such as "255" or "255,0,0"; None for the name of a class."""
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(re.fullmatch("[0-9]+", p.strip()) for p in parts):
        return None
    red, green, blue = [int(part) for part in parts] * (3 if len(parts) == 1 else 1)
    if max(red, green, blue) > 255:
        raise InputError(f"`void` needs values in [0, 255]. Received: void={shorten(text)}.")
    return red, green, blue
