"""Compares random splits with splits that keep neighboring images together."""

import numpy as np
import pytest
from PIL import Image

from lcc_tf.data.dataset import class_table
from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.examples import split_examples
from tfds_deepglobe.prepare import prepare

SCENES, TILES, SIDE = 8, 9, 32


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Folder with parts of scenes. In each scene, the classes have other colors."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    (folder / "class_dict.csv").write_text("name,id\nland,0\nwater,1\nroad,2\n")
    for scene in range(SCENES):
        colors = rng.integers(0, 256, (3, 3))
        for tile in range(TILES):
            mask = rng.integers(0, 3, (4, 4), np.uint8).repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)
            noise = rng.integers(-3, 4, (SIDE, SIDE, 3))
            image = np.clip(colors[mask] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"scene{scene}_{tile}_sat.png")
            Image.fromarray(mask).save(folder / f"scene{scene}_{tile}_mask.png")
    return folder


def mean_iou(builder):
    """Fits the color baseline to the training split, and scores it on the test split."""
    count = class_table(builder).num_classes
    batches = evaluation_batches(builder, "train", image_size=SIDE, batch_size=8)
    baseline = ColorBaseline.fit(batches.as_numpy_iterator(), count)
    matrix = np.zeros((count, count))
    for image, mask in split_examples(builder, "test", "scoring"):
        np.add.at(matrix, (mask, baseline.probabilities(image).argmax(-1)), 1)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return float(np.mean(np.diag(matrix) / union))


def test_random_split_of_neighbors_scores_higher_and_prints_a_warning(scenes, tmp_path, capsys):
    leaking = mean_iou(prepare(scenes, tmp_path))
    text = capsys.readouterr().out
    assert "warning: the image ids look like parts of 8 scenes, which the random split" in text
    pattern = text.split("`group_by=")[1].split("`")[0]
    honest = mean_iou(prepare(scenes, tmp_path, group_by=pattern))
    text = capsys.readouterr().out
    assert "random split of 8 groups" in text
    assert "warning" not in text
    assert leaking > honest + 0.1
