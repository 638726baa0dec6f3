import numpy as np
import pytest
from PIL import Image

from lcc_tf import figures
from lcc_tf.metrics import ImagewiseScore
from lcc_tf.training import history
from lcc_tf.training.history import CURVES, HISTORY, with_original_scores, write_history

ORIGINAL_SCORES = ("accuracy", "f1", "iou", "precision", "recall")


@pytest.mark.parametrize("ignore_class", [None, 3, 255])
def test_scores_derived_from_f1_equal_the_scores_of_metrics(ignore_class):
    rng = np.random.default_rng(0)
    metrics = {name: ImagewiseScore(name, 5, ignore_class=ignore_class) for name in ORIGINAL_SCORES}
    for batch_size in (3, 2):
        masks = rng.integers(-1, 5, (batch_size, 6, 7))
        masks[rng.random(masks.shape) < 0.2] = -1 if ignore_class is None else ignore_class
        masks[1] = -1  # an image without ground truth, which all scores ignore
        logits = rng.normal(size=(batch_size, 6, 7, 5)).astype(np.float32)
        for metric in metrics.values():
            metric.update_state(masks, logits)
    scores = {name: float(metric.result()) for name, metric in metrics.items()}
    computed = {f"{split}{name}": scores[name] for split in ("", "val_") for name in ("f1", "iou")}
    expected = {f"{split}{name}": scores[name] for split in ("", "val_") for name in scores}
    assert with_original_scores(computed, 5) == pytest.approx(expected, rel=1e-6)


def test_history_has_one_row_per_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "save_curves", figures.save_curves)
    scores = with_original_scores({"f1": 0.65, "val_f1": 0.3}, num_classes=7)
    curves = {
        f"{split}{name}": 0.5 for split in ("", "val_") for name in ("loss", "iou", "mean_iou")
    }
    write_history(tmp_path, [{"epoch": epoch, **scores, **curves} for epoch in (1, 2)])
    header, *rows = (tmp_path / HISTORY).read_text().splitlines()
    assert header.startswith("epoch,accuracy,f1,precision,recall,val_accuracy,val_f1")
    assert [row.split(",")[:3] for row in rows] == [["1", "0.9", "0.65"], ["2", "0.9", "0.65"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURVES, HISTORY]
    with Image.open(tmp_path / CURVES) as picture:
        assert picture.width > 2 * picture.height > 1000


def test_run_without_finished_epochs_has_no_history(tmp_path):
    write_history(tmp_path, [])
    assert not list(tmp_path.iterdir())
