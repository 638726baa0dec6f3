import numpy as np
import pytest
from PIL import Image

from tfds_deepglobe.__main__ import main
from tfds_deepglobe.archive import open_archive
from tfds_deepglobe.fake_archive import zip_folder

COLORS = np.array([(60, 16, 152), (132, 41, 246), (155, 155, 155)], np.uint8)


def write_masks(folder, masks):
    """Writes images, and masks from arrays, as `images/<number>.jpg` and `masks/<number>.png`."""
    for i, mask in enumerate(masks):
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*mask.shape[:2], 3), i, np.uint8)).save(folder / f"images/{i}.jpg")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
    return folder


def test_draft_lists_the_colors_of_all_masks(tmp_path, capsys):
    ids = np.zeros((3, 10, 10), np.uint8)
    ids[1, :5], ids[2] = 1, 1
    ids[2, 0, 0] = 2
    data = write_masks(tmp_path / "data", COLORS[ids])
    assert main(["classes", "--data", str(data)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["class_1", "60,16,152", "50.000%", "2", "masks/0.png"] in lines
    assert ["class_2", "132,41,246", "49.667%", "2", "masks/2.png"] in lines
    assert ["class_3", "155,155,155", "0.333%", "1", "masks/2.png"] in lines
    table = data / "class_dict.csv"
    assert table.read_text() == (
        "name,r,g,b\nclass_1,60,16,152\nclass_2,132,41,246\nclass_3,155,155,155\n"
    )
    table.write_text(table.read_text().replace("class_2", "land"))
    assert main(["classes", "--data", str(data)]) == 2
    assert "class_dict.csv exists and was not changed" in capsys.readouterr().err
    assert main(["classes", "--data", str(data), "--output", str(tmp_path / "new.csv")]) == 0
    assert (tmp_path / "new.csv").read_text() == table.read_text()  # keeps the names of the table
    assert main(["check", "--data", str(data)]) == 0


@pytest.mark.parametrize(
    ("values", "names"),
    [((1, 2, 255), "class_1 class_2 class_255"), ((0, 255), "class_0 class_255")],
)
def test_draft_of_gray_masks_has_the_values_as_names(tmp_path, values, names):
    masks = np.array(values, np.uint8)[np.arange(64).reshape(1, 8, 8) % len(values)]
    data = zip_folder(write_masks(tmp_path / "raw", masks), tmp_path / "my data.zip")
    assert main(["classes", "--data", str(data)]) == 0
    rows = (tmp_path / "class_dict.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == names.split()
    assert [int(row.split(",")[1]) for row in rows] == list(values)


def test_masks_with_too_many_colors_raise(tmp_path, capsys):
    masks = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    data = write_masks(tmp_path / "data", masks)
    assert main(["classes", "--data", str(data)]) == 2
    assert "colors, but a class table has at most 255" in capsys.readouterr().err
    assert not (data / "class_dict.csv").exists()


def test_check_lists_unknown_colors_in_one_table(tmp_path, capsys):
    ids = np.arange(200).reshape(2, 10, 10) % 3
    data = write_masks(tmp_path / "data", COLORS[ids])
    (data / "class_dict.csv").write_text("name,hex\nbuilding,3C1098\nroad,#6EC1E4\n")
    assert main(["check", "--data", str(data)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "all 2 masks, such as masks/0.png: colors without a class:"
    assert lines[2].startswith("  132,41,246         67 pixels in 2 masks; the nearest class is ")
    assert lines[3].startswith(
        "  155,155,155        66 pixels in 2 masks; the nearest class is road"
    )
    assert lines[3].endswith("(110,193,228, distance 94)")
    assert "`--map-color 132,41,246=CLASS`" in lines[4]
    assert open_archive(data).table == "class_dict.csv"
