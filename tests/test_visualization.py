import numpy as np
from PIL import Image

from lcc_tf.visualization import CURVES, save_curves, save_panel
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


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
    assert len(changed)  # the last axis but the legend's, in the third quarter of the width
    assert changed.min() > 800
    assert changed.max() < 1200


def test_panel_shows_image_truth_and_prediction_in_the_palette(tmp_path):
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
