import numpy as np
import pytest

from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, VOID_ID, ClassTable
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.relabeling import relabel

GRAYS = ClassTable(("land", "water", "road", "tree"), tuple((i,) * 3 for i in range(1, 5)))


def test_merged_classes_have_the_place_and_color_of_the_first_member():
    relabeling, color_map = relabel(
        GRAYS, {(9, 9, 9): 3}, merge=["green = tree+land", "x=road+water"]
    )
    assert relabeling.classes == ClassTable(("x", "green"), ((3, 3, 3), (4, 4, 4)))
    assert relabeling.ids == (1, 0, 0, 1, VOID_ID)
    mask = GRAYS.encode(np.repeat(np.uint8([[1, 2, 3, 4, 9]])[..., None], 3, -1), color_map)
    assert relabeling(mask).tolist() == [[1, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("void", "values", "expected"),
    [
        (["water"], [1, 2, 3, 4], [0, 255, 1, 2]),
        (["2"], [1, 2, 3, 4], [0, 255, 1, 2]),
        (["2,2,2"], [1, 2, 3, 4], [0, 255, 1, 2]),
        (["255"], [1, 2, 3, 4, 255], [0, 1, 2, 3, 255]),
        (["0", "255", "tree"], [0, 1, 2, 3, 4, 255], [255, 0, 1, 2, 255, 255]),
    ],
)
def test_void_pixels_are_no_class(void, values, expected):
    relabeling, color_map = relabel(GRAYS, {}, void=void)
    mask = np.repeat(np.uint8([values])[..., None], 3, -1)
    assert relabeling(GRAYS.encode(mask, color_map)).tolist() == [expected]
    assert relabeling.classes.num_classes == len({*expected} - {255})


def test_classes_without_options_are_not_changed():
    assert relabel(GRAYS, {(9, 9, 9): 3}) == (None, {(9, 9, 9): 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": ["a"]}, "must be the name of one class"),
        ({"merge": ["a=land"]}, "`merge` needs NEW=A[+]B.*Received: merge=a=land"),
        ({"merge": ["=land+water"]}, "`merge` needs NEW=A[+]B"),
        ({"merge": ["a=land+land"]}, "contains a class twice"),
        ({"merge": ["a=land+water", "b=water+road"]}, "each of which is merged once"),
        ({"merge": ["road=land+water"]}, "the name road more than once"),
        ({"merge": ["a=land+nothing"]}, "'nothing' must be the name of one class"),
        ({"void": ["nothing"]}, "'nothing' must be the name of one class"),
        ({"void": ["256"]}, r"values in \[0, 255\]. Received: void=256"),
        (
            {"void": ["land", "water", "road", "tree"]},
            "At least two classes must remain. Received: 0",
        ),
        ({"void": ["land", "water", "road"]}, "At least two classes must remain. Received: 1"),
        ({"void": ["x"], "merge": ["x=land+water"]}, "`void=x` is the name of a merged class"),
        ({"void": ["\u00b2"]}, "must be the name of one class"),
        ({"void": ["land"], "merge": ["a=land+water"]}, "land is in `merge` and in `void`"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(InputError, match=message):
        relabel(GRAYS, {}, **options)


def test_void_color_that_cannot_occur_raises():
    with pytest.raises(InputError, match="add the row void,7,7,7, and use `void=void`"):
        relabel(DEEPGLOBE_CLASSES, {}, void=["7"])


def test_void_that_can_have_two_meanings_raises():
    with pytest.raises(InputError, match="is in `map_color` and `void`"):
        relabel(GRAYS, {(9, 9, 9): 0}, void=["9"])
    numbers = ClassTable(("1", "2", "3"), ((10, 10, 10), (20, 20, 20), (3, 3, 3)))
    with pytest.raises(
        InputError, match="`void=1` is the name of a class and a value of the masks"
    ):
        relabel(numbers, {}, void=["1"])
    assert relabel(numbers, {}, void=["3"])[0].classes.names == ("1", "2")
