"""Panels of the first images of a split with ground truth and predictions."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from lcc_tf.figures import save_panel
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import WITHOUT, PredictedImage

PANELS = 6  # number of images that are drawn
PANEL_SIDE = 512  # longer side of a picture, pixels


def draw_panels(
    predicted_images: Iterable[PredictedImage],
    folder: Path,
    rules: ScoringRules,
    *,
    split: str,
    num_images: int,
) -> Iterator[PredictedImage]:
    """Draws the first `PANELS` images and yields all images unchanged.

    Args:
        predicted_images: images of a split.
        folder: existing folder for the PNG files.
        rules: rules of one protocol, with the classes and their colors.
        split: name of the split, for file names and titles.
        num_images: number of images in the split.
    """
    for index, predicted in enumerate(predicted_images):
        if index < PANELS:
            title = f"{split} image {index + 1} of {num_images}"
            _draw(predicted, folder / f"{split}_{index:02d}.png", rules, title)
        yield predicted


def _draw(predicted: PredictedImage, file: Path, rules: ScoringRules, title: str) -> None:
    """Draws the predictions of members, ensemble and color baseline for one image."""
    scale = PANEL_SIDE / max(predicted.mask.shape)
    height, width = (max(round(side * scale), 1) for side in predicted.mask.shape)
    resized = predicted.resize((height, width))
    predictions = {
        name: rules.predicted_ids(probabilities)
        for name, probabilities in resized.probabilities(slice(0, height))
        if not name.startswith(WITHOUT)
    }
    save_panel(resized.image, resized.mask, predictions, rules.classes, file, title=title)
