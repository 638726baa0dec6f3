"""Published protocols for scoring land-cover maps of the data set DeepGlobe.

A protocol defines the resolution at which predictions and ground truth are compared. It also
defines how the class `unknown` is scored. Pixels of this class show clouds, or land cover that the
annotators could not identify. docs/protocols.md lists the published scores of each protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lcc_tf.confusion_matrix import confusion_matrix
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import ClassTable


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A published protocol for scoring land-cover maps.

    If no class is named `unknown`, all pixels and all classes are scored.

    Attributes:
        name: name of the protocol.
        side: side of a square, pixels. Masks (nearest neighbor) and probabilities (bilinear) are
            resized to this square before the comparison. None to compare without resizing.
        masks_unknown: True if pixels whose ground truth is `unknown` are not scored.
        predicts_unknown: True if `unknown` can be the predicted class. If False, the predicted
            class is the most probable class other than `unknown`.
        averages_unknown: True if `unknown` is included in means over classes.
        columns: names of the scores that are columns of the tables; published scores are first.
        num_images: number of test images in the published results.
        comparable_with: description of the published scores that are computed in the same way.

    Example:
        >>> rules = OFFICIAL6.for_classes(lcc_tf.DEEPGLOBE_CLASSES)
        >>> rules.ignore_class, rules.averaged
        (6, [0, 1, 2, 3, 4, 5])
    """

    name: str
    side: int | None = None
    masks_unknown: bool
    predicts_unknown: bool
    averages_unknown: bool
    columns: tuple[str, ...] = ("mean_iou", "pixel_accuracy")
    num_images: int
    comparable_with: str

    def for_classes(self, classes: ClassTable) -> "ScoringRules":
        """Returns the scoring rules of the protocol for the classes of a data set."""
        return ScoringRules(self, classes)


@dataclass(frozen=True)
class ScoringRules:
    """Scoring rules: a protocol that is applied to the classes of one data set.

    Attributes:
        protocol: the protocol.
        classes: names and colors of the classes.
    """

    protocol: Protocol
    classes: ClassTable

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the class ids."""
        return self.classes.names

    @cached_property
    def ignore_class(self) -> int | None:
        """Id of the class whose ground-truth pixels are not scored; None if all are scored."""
        return self.classes.unknown_id if self.protocol.masks_unknown else None

    @cached_property
    def predicted(self) -> list[int]:
        """Ids of the classes that can be predicted."""
        return self._class_ids(with_unknown=self.protocol.predicts_unknown)

    @cached_property
    def averaged(self) -> list[int]:
        """Ids of the classes that are included in means over classes."""
        return self._class_ids(with_unknown=self.protocol.averages_unknown)

    def _class_ids(self, *, with_unknown: bool) -> list[int]:
        unknown = self.classes.unknown_id
        return [i for i in range(len(self.class_names)) if with_unknown or i != unknown]

    def predicted_ids(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the most probable class of each pixel, among the classes that can be predicted.

        Args:
            probabilities: float `(..., num_classes)`, in [0, 1].

        Returns:
            int64 `(...)`, class ids.
        """
        ids = probabilities.argmax(axis=-1)
        allowed = np.array(self.predicted)
        if len(allowed) == len(self.class_names):
            return ids
        # Most pixels keep their most probable class. Therefore compute again only the other pixels.
        forbidden = ~np.isin(np.arange(len(self.class_names)), allowed)[ids]
        ids[forbidden] = allowed[probabilities[forbidden][:, allowed].argmax(axis=-1)]
        return ids

    def confusion_matrix(self, mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Counts the scored pixels per ground-truth class and predicted class.

        Args:
            mask: integer `(height, width)`, class ids; pixels with the label
                `lcc_tf.ground_truth.NO_TRUTH` are ignored.
            ids: integer `(height, width)`, result of `predicted_ids`.

        Returns:
            int64 `(num_classes, num_classes)`; row = ground truth, column = prediction.
        """
        num_classes = len(self.class_names)
        return confusion_matrix(mask, ids, num_classes, ignore_class=self.ignore_class)


ORIGINAL = Protocol(
    name="original",
    side=512,
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=True,
    columns=("accuracy", "f1", "image_iou", "loss", "pixel_accuracy", "mean_iou"),
    num_images=81,
    comparable_with="accuracy, F1, IoU and loss of the original PyTorch notebooks, which had 81 "
    "other random test images, and scores of segmentation_models_pytorch with "
    "reduction='micro-imagewise'. The mIoU of papers is not comparable",
)
OFFICIAL6 = Protocol(
    name="official6",
    masks_unknown=True,
    predicts_unknown=False,
    averages_unknown=False,
    num_images=172,
    comparable_with="mean IoU of the DeepGlobe 2018 challenge (arXiv 1805.06561); the masks of its "
    "leaderboard are not public, so scores of other images are not exactly comparable",
)
GLNET = Protocol(
    name="glnet",
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=False,
    num_images=142,
    comparable_with="mIoU (%) of papers on the 454/207/142 split: FCN-8s 71.8, DeepLabv3+ 63.5, "
    "GLNet 71.6, MagNet 72.9, ISDNet 73.3, FCtL 73.5, WSDNet 74.1, GPWFormer 75.8, BPT 76.6 "
    "(arXiv 2412.10181, table 1)",
)
PROTOCOLS = {protocol.name: protocol for protocol in (ORIGINAL, OFFICIAL6, GLNET)}


def scoring_rules(protocols: Sequence[str], classes: ClassTable) -> list[ScoringRules]:
    """Returns the scoring rules of several protocols for the classes of a data set.

    Args:
        protocols: one or more keys of `PROTOCOLS`.
        classes: names and colors of the classes.

    Raises:
        InputError: a protocol is unknown, or `protocols` is empty.
    """
    if not protocols or not set(protocols) <= set(PROTOCOLS):
        raise InputError(
            f"`protocols` must be a list of names from {', '.join(PROTOCOLS)}. "
            f"Received: protocols={protocols!r}."
        )
    return [PROTOCOLS[name].for_classes(classes) for name in protocols]
