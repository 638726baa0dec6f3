"""Predictors that are scored side by side: members, their ensembles and a color baseline."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.examples import Example
from lcc_tf.scoring.resizing import resize_example, resized_rows

# Names of predictors in results
ENSEMBLE = "ensemble"
WITHOUT = "ensemble without "  # prefix of a member's name
COLOR_BASELINE = "color_baseline"


@dataclass(frozen=True)
class ScoredPredictors:
    """Members, their ensembles and a color baseline.

    Attributes:
        members: predictors with different names.
        ensembles: averages of the members' probabilities, by name.
        color_baseline: a color classifier of single pixels; None for no baseline.
    """

    members: Sequence[Predictor]
    ensembles: Mapping[str, Average] = field(default_factory=dict)
    color_baseline: ColorBaseline | None = None

    def predict(self, examples: Iterable[Example]) -> Iterator["PredictedImage"]:
        """Predicts images with each member.

        Args:
            examples: pairs of an image, uint8 `(height, width, 3)`, RGB, and its mask, integer
                `(height, width)`, class ids.

        Yields:
            The image, its mask and the probabilities.
        """
        for image, mask in examples:
            probabilities = [member.predict_image(image) for member in self.members]
            yield PredictedImage(image, mask, probabilities, self)


@dataclass(frozen=True)
class PredictedImage:
    """An image, its ground truth and the probabilities that each member predicts.

    Attributes:
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
        mask: integer `(height, width)`, class ids of the ground truth.
        member_probabilities: per member, float32 `(rows, columns, num_classes)` at the member's
            resolution.
        predictors: the predictors; their members predicted the image.
    """

    image: np.ndarray
    mask: np.ndarray
    member_probabilities: Sequence[np.ndarray]
    predictors: ScoredPredictors

    def resize(self, size: tuple[int, int]) -> "PredictedImage":
        """Returns the image for scoring at another size.

        Args:
            size: height and width, pixels.
        """
        image, mask = resize_example(self.image, self.mask, size)
        return dataclasses.replace(self, image=image, mask=mask)

    def probabilities(self, rows: slice) -> Iterator[tuple[str, np.ndarray]]:
        """Computes the probabilities of each predictor for some rows of the image.

        Args:
            rows: rows of the image, with start and stop; a step is optional.

        Yields:
            Name of the predictor, and its probabilities, float32 `(rows, width, num_classes)`.
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
    """Returns the ensemble and, for three members or more, each ensemble without one member.

    Args:
        members: the ensemble's members.
        weights: one weight per member.
        average: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.

    Returns:
        Averages by name of the ensemble.

    Raises:
        InputError: the average is unknown.
    """
    ensembles = {ENSEMBLE: Average(tuple(weights), average)}
    if len(members) > 2:
        for i, member in enumerate(members):
            remaining = (*weights[:i], 0.0, *weights[i + 1 :])
            if sum(remaining):  # 0 if one member has all the weight
                ensembles[WITHOUT + member.name] = Average(remaining, average)
    return ensembles


def check_names(names: Sequence[str]) -> None:
    """Checks that the members have no reserved names.

    Raises:
        InputError: the name of a member is the name of an ensemble or of the color baseline.
    """
    reserved = {ENSEMBLE, COLOR_BASELINE, *(WITHOUT + name for name in names)}
    if taken := sorted(reserved & set(names)):
        raise InputError(
            f"A run or model cannot be named {taken[0]!r}, which is the name of another predictor. "
            "Rename it."
        )
