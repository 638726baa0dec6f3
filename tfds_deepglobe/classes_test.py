import dataclasses

import numpy as np
import pytest
from PIL import Image

from tfds_deepglobe.class_files import read_class_table
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable, parse_color_map
from tfds_deepglobe.errors import InputError, OtherPaletteError

# Three classes with channel values other than 0 and 255, so that masks are not binarized.
SHADES = ClassTable(("rock", "sand", "sandstone"), ((10, 20, 30), (10, 20, 31), (200, 0, 0)))


def mask_of(*colors):
    """Returns a mask with one row of pixels."""
    return np.array([colors], np.uint8)


@pytest.mark.parametrize("classes", [DEEPGLOBE_CLASSES, SHADES])
def test_encode_inverts_colorize(classes):
    class_ids = np.random.default_rng(0).integers(0, classes.num_classes, (9, 5), np.uint8)
    encoded = classes.encode(classes.colorize(class_ids))
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded, class_ids)


def test_channels_are_binarized_at_128():
    mask = mask_of((127, 128, 200), (128, 255, 127), (0, 1, 0), *[(0, 0, 0)] * 50)
    assert DEEPGLOBE_CLASSES.encode(mask)[:, :3].tolist() == [[0, 1, 6]]


def ids_with_void(count, void):
    ids = np.arange(400).reshape(20, 20) // 4 % count
    ids[-1] = void
    return ids.astype(np.uint8)


@pytest.mark.parametrize("channels", [[0, 1, 2], [0]])
@pytest.mark.parametrize("void", [255, 254, 128])
def test_class_ids_with_a_void_value_raise(void, channels):
    mask = np.zeros((20, 20, 3), np.uint8)
    mask[..., channels] = ids_with_void(7, void)[..., None]
    with pytest.raises(OtherPaletteError) as error:
        DEEPGLOBE_CLASSES.encode(mask)
    message = str(error.value)
    assert message.startswith(f"contains the values 0, 1, 2, 3, 4, 5, 6, {void}, probably class id")
    rows = message.split("name,r,g,b / ")[1].split(";")[0]
    table = read_class_table("a.csv", ("name,r,g,b\n" + rows.replace(" / ", "\n")).encode())
    assert table.names == (*(f"class_{i}" for i in range(7)), "unknown")
    np.testing.assert_array_equal(
        table.encode(mask), np.where(mask[..., 0] == void, 7, mask[..., 0])
    )


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (1, 1, 1), (255, 255, 255)],  # a building mask with void
        [(i, i, i) for i in range(150)],
        [(i, i, i) for i in (0, 128, 255)],
        [(i, i, i) for i in (0, 1, 2, 254, 255)],  # two void values
        [(60, 16, 152), (132, 41, 246), (110, 193, 228)],
        [(0, 0, 0), (0, 128, 0), (128, 128, 0)],  # Pascal VOC
    ],
    ids=["void", "150 ids", "shades", "two void values", "colors", "VOC"],
)
def test_colors_of_another_class_table_raise(colors):
    mask = np.array(colors, np.uint8)[np.arange(900).reshape(30, 30) % len(colors)]
    for classes in (DEEPGLOBE_CLASSES, ClassTable(("a", "b"), ((0, 0, 0), (255, 255, 255)))):
        with pytest.raises(OtherPaletteError, match="use a class_dict.csv with one row per class"):
            classes.encode(mask)


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (0, 128, 0), (128, 128, 0)],
        [(0, 0, 0), (64, 0, 128), (192, 128, 0)],  # later classes of Pascal VOC
        [(0, 0, 0), (255, 255, 255), (128, 128, 128)],  # a third value for borders
        [(0, 0, 0), (0, 197, 255), (56, 200, 0)],  # values below 64 and above 191
        [(3, 3, 3), (220, 220, 220), (200, 200, 200)],
    ],
)
def test_few_pixels_of_another_class_table_raise(colors):
    mask = np.zeros((60, 60, 3), np.uint8)
    mask[20:40, 20:40] = colors[1]
    mask[10:13, 3:8] = colors[2]
    with pytest.raises(OtherPaletteError, match="use a class_dict.csv with one row per class"):
        DEEPGLOBE_CLASSES.encode(mask)


@pytest.mark.parametrize("size", [64, 100, 300, 400, 600, 2400])
@pytest.mark.parametrize("classes", [[5, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_masks_of_resized_copies_are_binarized(size, classes):
    """The classes 5 and 6 are white and black. Resized masks of both classes are gray.

    The gray values must not be used as class ids.
    """
    ids = np.array(classes)[np.arange(36).reshape(6, 6) % len(classes)].astype(np.uint8)
    mask = Image.fromarray(DEEPGLOBE_CLASSES.colorize(ids.repeat(200, 0).repeat(200, 1)))
    resized = np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR))
    assert not np.isin(resized, (0, 255)).all()
    color_map = {(255, 0, 0): 6}  # pixels between two classes can have this color
    assert set(np.unique(DEEPGLOBE_CLASSES.encode(resized, color_map))) >= set(classes)


def test_gray_mask_is_binarized_if_the_palette_is_black_and_white():
    classes = ClassTable(("land", "water"), ((0, 0, 0), (255, 255, 255)))
    mask = mask_of(*[(level,) * 3 for level in (0, 3, 250, 255)])
    assert classes.encode(mask).tolist() == [[0, 0, 1, 1]]
    noise = np.random.default_rng(0).integers(0, 4, (8, 8, 1), np.uint8)
    noisy = np.concatenate([noise, 255 - noise]).repeat(3, axis=-1)
    assert classes.encode(noisy)[:, 0].tolist() == [0] * 8 + [1] * 8


def test_colors_of_a_palette_that_is_not_binarized_match_exactly():
    assert SHADES.encode(mask_of((10, 20, 31), (200, 0, 0))).tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"1 pixel of \(10, 20, 32\) do not belong to any class"):
        SHADES.encode(mask_of((10, 20, 31), (10, 20, 32)))


def test_most_frequent_unknown_colors_are_listed_first():
    mask = mask_of((200, 0, 0), *[(0, 0, 99)] * 3, *[(i, i, i) for i in range(100, 110)])
    with pytest.raises(InputError) as error:
        ClassTable(("only",), ((200, 0, 1),)).encode(mask)
    assert str(error.value).startswith("3 pixels of (0, 0, 99), 1 pixel of (100, 100, 100), ")
    assert "and 7 more colors" in str(error.value)
    assert "`map_color=0,0,99=CLASS`" in str(error.value)


def test_message_lists_unknown_colors_after_binarizing():
    with pytest.raises(InputError, match=r"2 pixels of \(255, 0, 0\) do not belong to any class"):
        DEEPGLOBE_CLASSES.encode(mask_of((140, 3, 5), (255, 0, 0), *[(0, 0, 0)] * 50))


def test_pixels_of_a_mask_without_faults_are_not_sorted(monkeypatch):
    """Looking up each color is a hundred times faster than sorting the pixels with `np.unique`."""
    monkeypatch.setattr(np, "unique", None)
    DEEPGLOBE_CLASSES.encode(DEEPGLOBE_CLASSES.colorize(np.zeros((4, 4), np.uint8)))


@pytest.mark.parametrize(
    ("classes", "color"), [(DEEPGLOBE_CLASSES, (255, 0, 0)), (SHADES, (1, 2, 3))]
)
def test_color_map_assigns_a_class_to_a_color(classes, color):
    color_map = classes.resolve_color_map({color: classes.names[2]})
    assert classes.encode(mask_of(color, classes.palette[1]), color_map).tolist() == [[2, 1]]


def test_class_id_of_a_name_or_its_first_letters():
    assert DEEPGLOBE_CLASSES.class_id("unknown") == 6
    assert DEEPGLOBE_CLASSES.class_id("urban") == DEEPGLOBE_CLASSES.class_id("URBAN_land") == 0
    assert SHADES.class_id("sand") == 1  # exact name, although "sandstone" also begins with "sand"


@pytest.mark.parametrize("name", ["lava", "", "s"])
def test_unknown_and_ambiguous_names_raise(name):
    with pytest.raises(InputError, match="Choose one of: rock, sand, sandstone"):
        SHADES.class_id(name)


def test_message_about_many_long_names_is_short():
    classes = ClassTable(
        tuple(f"{'x' * 200}{i}" for i in range(255)), tuple((i, 0, 1) for i in range(255))
    )
    with pytest.raises(InputError) as error:
        classes.class_id("y" * 5000)
    assert len(str(error.value)) < 700


def test_mapping_the_color_of_a_class_or_an_impossible_color_raises():
    with pytest.raises(
        InputError,
        match=r"\(0, 0, 255\) cannot be mapped to unknown, .* of the class water",
    ):
        DEEPGLOBE_CLASSES.resolve_color_map({(0, 0, 255): "unknown"})
    with pytest.raises(InputError, match=r"cannot occur.* Map \(255, 0, 0\) instead"):
        DEEPGLOBE_CLASSES.resolve_color_map({(200, 3, 3): "unknown"})


def test_parse_color_map():
    parsed = parse_color_map(["255,0,0=unknown", "1, 2, 3 = water"])
    assert parsed == {(255, 0, 0): "unknown", (1, 2, 3): "water"}


@pytest.mark.parametrize("entry", ["255,0,0", "255,0=x", "1,2,300=x", "a,b,c=x", "1,2,3=", "=x"])
def test_invalid_color_map_raises(entry):
    with pytest.raises(InputError, match="`map_color` needs R,G,B=CLASS.*Received: map_color="):
        parse_color_map([entry])


def test_color_mapped_twice_raises():
    with pytest.raises(InputError, match="has the color .* twice"):
        parse_color_map(["1,2,3=a", "1,2,3=b"])


def test_arrays_with_a_wrong_shape_or_value_raise():
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        DEEPGLOBE_CLASSES.encode(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"must be in \[0, 7\)"):
        DEEPGLOBE_CLASSES.colorize(np.array([7]))


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN "])
def test_class_unknown_has_any_letter_case(name):
    assert ClassTable(("land", name), ((0, 255, 0), (0, 0, 255))).unknown_id == 1
    assert ClassTable(("land", "water"), ((0, 255, 0), (0, 0, 255))).unknown_id is None


def test_class_table_of_lists_equals_the_table_of_tuples():
    table = ClassTable(["land", "water"], [[0, 255, 0], [0, 0, 255]])
    assert table == ClassTable(("land", "water"), ((0, 255, 0), (0, 0, 255)))
    assert hash(table)
    with pytest.raises(InputError, match="a sequence of names"):
        ClassTable("ab", ((0, 255, 0), (0, 0, 255)))


def test_class_table_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEEPGLOBE_CLASSES.names = ()


@pytest.mark.parametrize("count", [2, 5, 20, 255])
def test_class_ids_are_displayed_in_different_colors(count):
    names = tuple(map(str, range(count)))
    table = ClassTable(names, tuple((i, i, i) for i in range(count)))
    colors = np.array(table.displayed.palette, int)
    distances = np.abs(colors[:, None] - colors).sum(axis=-1) + 999 * np.eye(count, dtype=int)
    assert distances.min() >= {2: 200, 5: 75, 20: 30}.get(count, 1)
    assert table.displayed.names == names


def test_other_colors_are_displayed_unchanged():
    binary = ClassTable(("a", "b"), ((0, 0, 0), (255, 255, 255)))
    assert binary.displayed is binary
    assert DEEPGLOBE_CLASSES.displayed is DEEPGLOBE_CLASSES
    mixed = ClassTable(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (255, 0, 0)))
    assert mixed.displayed is mixed
