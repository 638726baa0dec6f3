import codecs

import pytest

from tfds_deepglobe.class_files import TABLE, read_class_table
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable
from tfds_deepglobe.errors import InputError


def test_deepglobe_classes_equal_the_class_table_of_kaggle():
    kaggle = (
        "name,r,g,b\nurban_land,0,255,255\nagriculture_land,255,255,0\nrangeland,255,0,255\n"
        "forest_land,0,255,0\nwater,0,0,255\nbarren_land,255,255,255\nunknown,0,0,0\n"
    )
    assert read_class_table(TABLE, kaggle.encode()) == DEEPGLOBE_CLASSES
    assert DEEPGLOBE_CLASSES.num_classes == 7


def test_csv_with_byte_order_mark_windows_line_ends_and_shuffled_columns():
    text = "\ufeffr, g, b, Name\r\n1, 2, 3, a\r\n\r\n4, 5, 6, b\r\n"
    assert read_class_table(TABLE, text.encode()) == ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize(
    "content",
    [
        b"name,r,g,b\ra,1,2,3\rb,4,5,6\r",  # line ends of old Macs
        b"name;r;g;b\r\na;1;2;3\r\nb;4;5;6\r\n;;;\r\n",
        b"sep=;\r\nname;r;g;b\r\na;1;2;3\r\nb;4;5;6\r\n",
        b"name\tr\tg\tb\na\t1\t2\t3\nb\t4\t5\t6\n",
        b"\xef\xbb\xbf\n\nname,r,g,b,note\na,1,2,3,x\nb,4,5,6\n,,,,\n",
        "name;r;g;b\na;1;2;3\nb;4;5;6\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "name,r,g,b\ra,1,2,3\rb,4,5,6".encode("utf-16-be"),
    ],
)
def test_csv_of_spreadsheets_is_read(content):
    assert read_class_table(TABLE, content) == ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must contain the columns name, r, g, b"),
        ("name,r,g,b,R\nx,1,2,3,4\n", "must not repeat the columns r"),
        ('name,r,g,b\n"x' + "y" * 200_000, "line 2: field larger than field limit"),
        ("name,r,b\nx,1,2\n", "must contain the columns g"),
        ("name,r,g,b\n", "has no class"),
        ("name,r,g,b\nx,1,2\n", "line 2: expected a name and three numbers"),
        ("name,r,g,b\nx,1,2,3\ny,1,2,z\n", "line 3: expected a name and three numbers"),
        ("\tname\tr\tg\tb\n0\t1\t0\t255\tz\n", "line 2: expected a name"),
        ("\nsep=;\nname;r;g;b\nx;1;2;3\ny;1;2;z\n", "line 5: expected a name"),
        ("name,r,g,b\nroad,1,0,255,0\n", "line 2: expected a name.*'road', '1', '0', '255', '0'"),
        (
            "name,r,g,b\nx,1,2,256\n",
            r"class x must be three numbers in \[0, 255\]. Received: \(1, 2, 256\)",
        ),
        (
            "name,r,g,b\nx,-1,2,3\n",
            r"class x must be three numbers in \[0, 255\]. Received: \(-1, 2, 3\)",
        ),
        (
            "name,r,g,b\n ,1,2,3\n",
            r"\(1, 2, 3\) needs a name without line breaks and other .*Received: ''",
        ),
        ('name,r,g,b\n"x\ny",1,2,3\n', r"control characters. Received: 'x\\ny'"),
        ("name,r,g,b\nx\x1b[31m,1,2,3\n", r"control characters. Received: 'x\\x1b\[31m'"),
        ("name,r,g,b\nx\u202ey,1,2,3\n", r"control characters. Received: 'x\\u202ey'"),
        ("name,r,g,b\nx,1,2,3\nx,4,5,6\n", "the name x more than once"),
        ("name,r,g,b\nx,1,2,3\ny,1,2,3\n", r"the color \(1, 2, 3\) more than once"),
        ("name,r,g,b\n" + "".join(f"{i},0,0,{i}\n" for i in range(256)), "1 to 255 classes"),
    ],
)
def test_invalid_csv_raises(text, message):
    with pytest.raises(InputError, match=message):
        read_class_table(TABLE, text.encode())


def test_csv_that_is_not_text_raises():
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read_class_table(TABLE, b"\xff\xfe\x00")
    with pytest.raises(InputError, match="null characters"):
        read_class_table(TABLE, "name,r,g,b\n".encode("utf-16-le"))  # without a byte order mark


@pytest.mark.parametrize(
    "text", ["x" * 9000, "name,r,g,b\n" + "x," * 5000, f"name,r,g,b\n{'x' * 9000},1,2,300\n"]
)
def test_messages_about_long_texts_are_short(text):
    with pytest.raises(InputError) as error:
        read_class_table(TABLE, text.encode())
    assert len(str(error.value)) < 300


CLASSES = ClassTable(("a", "b"), ((1, 2, 3), (255, 0, 16)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_dict.csv", "Class;Red;Green;Blue\na;1;2;3\nb;255;0;16\n"),
        ("class_dict.csv", "name,id,r,g,b\na,0,1,2,3\nb,1,255,0,16\n"),
        ("class_dict.csv", "NAME,HEX\na,#010203\nb,ff0010\n"),
        ("x/LabelMap.txt", "# label:color_rgb:parts:actions\na:1,2,3::\nb:255,0,16::\n"),
        ("classes.json", '{"classes": [{"title": "a", "shape": "any", "color": "#010203"}, '
         '{"title": "b", "color": "#FF0010"}], "tags": []}'),
        ("meta.json", '[{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": "#FF0010"}]'),
    ],
)  # fmt: skip
def test_class_tables_of_other_programs_are_read(name, text):
    assert read_class_table(name, text.encode()) == CLASSES


def test_ids_are_gray_values():
    table = read_class_table("class_dict.csv", b"id,name\n1,a\n2,b\n255,unknown\n")
    assert table.palette == ((1, 1, 1), (2, 2, 2), (255, 255, 255))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("class_dict.csv", "name,hex\na,#12\n", "line 2: expected a name and a color such as"),
        ("class_dict.csv", "name,id\na,x\n", "line 2: expected a name and a number"),
        ("labelmap.txt", "a:1,2\n", "labelmap.txt, line 1: expected a line such as water"),
        ("labelmap.txt", "a\n", "labelmap.txt, line 1: expected a line such as water"),
        ("labelmap.txt", "# nothing\n", "labelmap.txt has no class"),
        ("classes.json", "{", "classes.json is not a class table: .*Expected: a list `classes`"),
        ("classes.json", '{"tags": 1}', "is not a class table"),
        ("classes.json", '{"classes": [{"title": "a"}]}', "is not a class table"),
        ("classes.json", '{"classes": [{"title": "a", "color": "red"}]}', "not a color: red"),
        ("classes.json", '[{"name": 1, "color": "#010203"}]', "a name is not text"),
        ("classes.json", "[" * 100000, "is not a class table"),
        ("classes.json", "7", "is not a class table"),
    ],
)
def test_invalid_class_tables_of_other_programs_raise(name, text, message):
    with pytest.raises(InputError, match=message):
        read_class_table(name, text.encode())
