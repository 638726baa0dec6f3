import numpy as np
import pytest
from PIL import Image

from lcc_tf.prediction.predictors import Predictor
from lcc_tf.scoring.panels import draw_panels
from lcc_tf.scoring.protocols import GLNET
from lcc_tf.scoring.scored_predictors import ScoredPredictors
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

GREEN = (10, 150, 60)  # a color that no class, text or frame has


def test_panel_keeps_the_aspect_ratio_of_the_image(tmp_path):
    water = np.eye(7, dtype=np.float32)[np.full((1, 32, 32), 4)]
    member = Predictor("any", lambda _: water, "whole", image_size=32, tile=32, size_divisor=1)
    image = np.broadcast_to(np.uint8(GREEN), (32, 64, 3))
    predicted = ScoredPredictors([member]).predict([(image, np.full((32, 64), 3, np.uint8))])
    rules = GLNET.for_classes(DEEPGLOBE_CLASSES)
    images = list(draw_panels(predicted, tmp_path, rules, split="test", num_images=1))
    assert images[0].image is image
    with Image.open(tmp_path / "test_00.png") as panel:
        picture = np.asarray(panel.convert("RGB"))
    # The image, the ground truth and the prediction have these three colors. Only rows with more
    # than 50 pixels of a color are counted, because the legend has smaller patches of it.
    for color in (GREEN, DEEPGLOBE_CLASSES.palette[3], DEEPGLOBE_CLASSES.palette[4]):
        widths = (picture == color).all(axis=-1).sum(axis=1)
        assert widths.max() / (widths > 50).sum() == pytest.approx(2, rel=0.05)
