"""Predictors that are scored together on the same images.

A predictor predicts class probabilities. There are three kinds of predictors:

- members: the networks;
- ensembles: averages of the members' probabilities;
- the color baseline: a classifier that uses only the color of each pixel.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.examples import Example
from lcc_tf.scoring.resizing import resize_example, resized_rows

# Names of predictors in results
ENSEMBLE = "ensemble"
WITHOUT = "ensemble without "  # followed by the name of the removed member
COLOR_BASELINE = "color_baseline"


@dataclass(frozen=True)
class ScoredPredictors:
    """Members, their ensembles and the color baseline.

    Attributes:
        members: networks with different names.
        ensembles: key: name of an ensemble. Value: average that the ensemble computes.
        color_baseline: the color baseline; None if it is not scored.
    """

    members: Sequence[Predictor]
    ensembles: Mapping[str, Average] = field(default_factory=dict)
    color_baseline: ColorBaseline | None = None

    @property
    def bands(self) -> Bands | None:
        """Bands of the images; None for RGB in [0, 255]."""
        return self.members[0].bands

    def predict(self, examples: Iterable[Example]) -> Iterator["PredictedImage"]:
        """Predicts images with each member.

        Args:
            examples: pairs of an image, uint8 `(height, width, 3)`, RGB, or
                `(height, width, bands)`, and its mask, integer `(height, width)`, class ids.

        Yields:
            Each image with its mask and the probabilities of all members.
        """
        for image, mask in examples:
            probabilities = [member.predict_image(image) for member in self.members]
            yield PredictedImage(image, mask, probabilities, self)


@dataclass(frozen=True)
class PredictedImage:
    """An image, its ground truth and the probabilities that the members predict.

    Attributes:
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
        mask: integer `(height, width)`, class ids of the ground truth.
        member_probabilities: one array per member, float32 `(rows, columns, num_classes)`. The
            rows and columns are the output size of the member, which can differ from the size of
            the image.
        predictors: predictors whose members predicted the image.
    """

    image: np.ndarray
    mask: np.ndarray
    member_probabilities: Sequence[np.ndarray]
    predictors: ScoredPredictors

    def resize(self, size: tuple[int, int]) -> "PredictedImage":
        """Resizes the image and the mask, for scoring at another size.

        Args:
            size: height and width, pixels.
        """
        image, mask = resize_example(self.image, self.mask, size)
        return dataclasses.replace(self, image=image, mask=mask)

    def probabilities(self, rows: slice) -> Iterator[tuple[str, np.ndarray]]:
        """Computes the probabilities of each predictor for some rows of the image.

        Args:
            rows: slice of rows of the image, with a start and a stop. The step is optional.

        Yields:
            Pairs of the name of a predictor and its probabilities, float32
            `(number of rows, width, num_classes)`.
        """
        members, size = self.predictors.members, self.mask.shape
        resized = [resized_rows(p, size, rows) for p in self.member_probabilities]
        yield from zip((member.name for member in members), resized, strict=True)
        for name, average in self.predictors.ensembles.items():
            yield name, average(resized)
        if self.predictors.color_baseline:
            image_rows = self.image[rows]
            yield COLOR_BASELINE, self.predictors.color_baseline.probabilities(image_rows)


def ensembles_of(
    members: Sequence[Predictor], weights: Sequence[float], average: str
) -> dict[str, Average]:
    """Defines the ensembles of some members.

    For three members or more, there are two kinds of ensembles: the ensemble of all members, and
    each ensemble without one of the members. For fewer members, there is only the first kind.

    Args:
        members: members of the ensemble.
        weights: one weight per member.
        average: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.

    Returns:
        Dictionary. Key: name of an ensemble. Value: average that the ensemble computes.

    Raises:
        InputError: `average` is unknown.
    """
    ensembles = {ENSEMBLE: Average(tuple(weights), average)}
    if len(members) > 2:
        for i, member in enumerate(members):
            remaining = (*weights[:i], 0.0, *weights[i + 1 :])
            if sum(remaining):  # an average needs a weight above 0
                ensembles[WITHOUT + member.name] = Average(remaining, average)
    return ensembles


def check_names(names: Sequence[str]) -> None:
    """Checks that no member has the name of another predictor.

    Raises:
        InputError: a member has the name of an ensemble or of the color baseline.
    """
    reserved = {ENSEMBLE, COLOR_BASELINE, *(WITHOUT + name for name in names)}
    if taken := sorted(reserved & set(names)):
        raise InputError(
            f"A run or model cannot be named {taken[0]!r}, because the results use this name for "
            "an ensemble or the color baseline. Rename the run or model."
        )
