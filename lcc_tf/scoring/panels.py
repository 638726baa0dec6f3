"""Panels: pictures of the first images of a split.

A panel shows an image, its ground truth and the predictions side by side.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from lcc_tf.bands import as_rgb
from lcc_tf.figures import save_panel
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import WITHOUT, PredictedImage

MAX_PANELS = 6  # maximum number of panels per split
PICTURE_SIDE = 512  # longer side of the image in a panel, pixels


def draw_panels(
    predicted_images: Iterable[PredictedImage],
    folder: Path,
    rules: ScoringRules,
    *,
    split: str,
    num_images: int,
) -> Iterator[PredictedImage]:
    """Draws a panel for each of the first `MAX_PANELS` images, and yields all images unchanged.

    Args:
        predicted_images: predicted images of a split.
        folder: existing folder for the panels, which are PNG files.
        rules: scoring rules of one protocol, which contain the names and colors of the classes.
        split: name of the split, which is part of file names and titles.
        num_images: number of images in the split.
    """
    for index, predicted in enumerate(predicted_images):
        if index < MAX_PANELS:
            title = f"{split} image {index + 1} of {num_images}"
            _draw(predicted, folder / f"{split}_{index:02d}.png", rules, title)
        yield predicted


def _draw(predicted: PredictedImage, file: Path, rules: ScoringRules, title: str) -> None:
    """Draws one panel with the predictions of the members, the ensemble and the color baseline.

    The ensembles without one member are not drawn.
    """
    scale = PICTURE_SIDE / max(predicted.mask.shape)
    height, width = (max(round(side * scale), 1) for side in predicted.mask.shape)
    resized = predicted.resize((height, width))
    predictions = {
        name: rules.predicted_ids(probabilities)
        for name, probabilities in resized.probabilities(slice(0, height))
        if not name.startswith(WITHOUT)
    }
    image = as_rgb(resized.image, resized.predictors.bands)
    save_panel(image, resized.mask, predictions, rules.classes, file, title=title)
