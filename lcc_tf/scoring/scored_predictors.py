"""All that is scored side by side: members, ensembles and a baseline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.resizing import resized_rows

COLOR_BASELINE = "color_baseline"
# Scored at a time, so that the full-size probabilities of many predictors are never held at once.


@dataclass(frozen=True)
class Predictors:
    """All that is scored side by side, each by its name."""

    members: Sequence[Predictor]
    ensembles: dict[str, Average]
    baseline: ColorBaseline | None = None

    def at(
        self, own: Sequence[np.ndarray], image: np.ndarray, rows: slice
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Gives each predictor's probabilities of some rows of an image.

        Args:
            own: of each member's `predict`.
            image: `(height, width, 3)`, RGB in [0, 255], of the size that is scored.
            rows: of that image.

        Yields:
            Name, and float32 `(rows, width, num_classes)`.
        """
        resized = [resized_rows(p, image.shape[:2], rows) for p in own]
        yield from zip((member.name for member in self.members), resized, strict=True)
        for name, average in self.ensembles.items():
            yield name, average(resized)
        if self.baseline:
            yield COLOR_BASELINE, self.baseline.probabilities(image[rows])
