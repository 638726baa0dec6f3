import numpy as np
import pytest
from PIL import Image

from lcc_tf.figures import CURVES, save_curves, save_overlay, save_panel
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

GREEN = (10, 150, 60)  # this color is not in the palette, text or frames


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def test_curves_show_every_score(tmp_path):
    rows = [{"epoch": e, **{f"{p}{n}": e for n in CURVES for p in ("", "val_")}} for e in (1, 2, 3)]
    save_curves(rows, tmp_path / "curves.png", title="run")
    full = pixels(tmp_path / "curves.png")
    assert full.shape == (750, 1600, 3)
    falling = [row | {"val_f1": 4 - row["val_f1"]} for row in rows]
    save_curves(falling, tmp_path / "other.png", title="run")
    changed = (pixels(tmp_path / "other.png") != full).any(axis=(0, 2)).nonzero()[0]
    # Only the plot of F1 has changed. It is in the third quarter of the figure's width.
    assert len(changed)
    assert changed.min() > 800
    assert changed.max() < 1200


def test_void_pixels_of_the_ground_truth_are_gray(tmp_path):
    image = np.full((32, 32, 3), 100.0)
    mask = np.where(np.arange(32)[:, None] < 16, -1, 4) + np.zeros((32, 32), int)
    predictions = {"model": np.full((32, 32), 3, np.uint8)}
    save_panel(image, mask, predictions, DEEPGLOBE_CLASSES, tmp_path / "panel.png", title="x")
    picture = pixels(tmp_path / "panel.png")
    gray, blue = ((picture == color).all(-1).sum() for color in ((128, 128, 128), (0, 0, 255)))
    assert 0.5 * blue < gray < 1.5 * blue


def test_panel_shows_image_ground_truth_and_prediction_in_this_order(tmp_path):
    image = np.full((32, 32, 3), 100.0)
    mask, prediction = np.full((32, 32), 4, np.uint8), np.full((32, 32), 3, np.uint8)
    file = tmp_path / "panel.png"
    save_panel(image, mask, {"model": prediction}, DEEPGLOBE_CLASSES, file, title="x")
    row = pixels(file)[200]
    order = [
        (row == color).all(axis=-1).nonzero()[0].mean()
        for color in ((100, 100, 100), (0, 0, 255), (0, 255, 0))
    ]
    assert order == sorted(order)


def many_classes(count):
    names = tuple(f"class number {i}" for i in range(count))
    return ClassTable(names, tuple((i, 255 - i, 77) for i in range(count)))


def size_of(picture, color):
    """Returns height and width of the area that has a color, pixels."""
    rows, columns = (picture == color).all(axis=-1).nonzero()
    return np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.mark.parametrize(("height", "width"), [(544, 509), (200, 800), (800, 200)])
def test_panel_keeps_the_aspect_ratio_of_the_image(tmp_path, height, width):
    mask = np.full((height, width), 4, np.uint8)
    image = np.broadcast_to(GREEN, (height, width, 3))
    save_panel(image, mask, {"model": mask}, DEEPGLOBE_CLASSES, tmp_path / "p.png", title="x")
    panel = pixels(tmp_path / "p.png")
    shown_height, shown_width = size_of(panel, GREEN)
    assert shown_height / shown_width == pytest.approx(height / width, rel=0.03)
    # In addition to the pictures, the figure contains only titles and the legend.
    assert panel.shape[0] < shown_height + 200
    assert panel.shape[1] < 3 * shown_width + 200


@pytest.mark.parametrize("save", [save_panel, save_overlay])
def test_long_legend_does_not_shrink_the_pictures(tmp_path, save):
    """A legend of more than 20 classes lists only the classes in the picture."""
    heights, pictures = [], []
    for count, shown in ((2, 2), (20, 1), (255, 250), (255, 1)):
        class_ids = (np.arange(400) * shown // 400).astype(np.uint8)
        mask = np.broadcast_to(class_ids[:, None], (400, 400))
        image, file = np.broadcast_to(GREEN, (400, 400, 3)), tmp_path / "picture.png"
        if save is save_panel:
            save(image, mask, {}, many_classes(count), file, title="x")
            pictures.append(size_of(pixels(file), GREEN)[0])
        else:
            save(image, mask, np.ones((400, 400), bool), many_classes(count), file)
        heights.append(len(pixels(file)))
    two, twenty, all_of_255, one_of_255 = heights
    assert two == one_of_255 < twenty < all_of_255
    assert all_of_255 > two + 25 * 20
    assert np.ptp(pictures or [0]) <= 4


def test_legend_of_an_overlay_is_larger_for_a_larger_picture(tmp_path):
    legends = []
    for width in (1000, 2000):
        image, mask = np.broadcast_to(GREEN, (100, width, 3)), np.zeros((100, width), np.uint8)
        save_overlay(image, mask, mask == 0, DEEPGLOBE_CLASSES, tmp_path / "o.png")
        picture = pixels(tmp_path / "o.png")
        assert abs(picture.shape[1] - width) <= 1
        legends.append(len(picture) - 100)
    assert legends[1] / legends[0] == pytest.approx(2, rel=0.05)
