"""The published ways to score DeepGlobe, and the scores of a confusion matrix by each of them.

A protocol says at which resolution truth and prediction meet, and what becomes of the class
`unknown`, clouds and the like, in truth, prediction and mean. docs/protocols.md says what has been
published by which.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.metrics import confusion_matrix
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a score is of.

    Where the class table has no class named `unknown`, nothing is masked or left out.

    Attributes:
        name: of the protocol.
        side: of the square that masks are resized to (nearest) and probabilities brought to
            (bilinear), pixels; None for each image's own size, where masks stay as they are.
        masks_unknown: whether pixels whose truth is `unknown` are left out.
        predicts_unknown: whether `unknown` may be predicted; if not, the most probable of the
            other classes is.
        averages_unknown: whether `unknown` counts in means over classes.
        columns: the scores to show first, in this order; those that have been published before.
        num_images: of the test split that the published scores are of.
        comparable_with: whose published scores, of DeepGlobe's classes, are of this kind.
    """

    name: str
    side: int | None
    masks_unknown: bool
    predicts_unknown: bool
    averages_unknown: bool
    columns: tuple[str, ...]
    num_images: int
    comparable_with: str

    def comparison(self, class_names: Sequence[str]) -> str:
        """Which published scores a score of these classes may be held against."""
        if set(class_names) == set(DEEPGLOBE_CLASSES.names):
            return self.comparable_with
        return "no published score: the classes are not DeepGlobe's"

    def ignore_class(self, class_names: Sequence[str]) -> int | None:
        """The class id whose true pixels are left out, if there is one."""
        if not self.masks_unknown or UNKNOWN not in class_names:
            return None
        return class_names.index(UNKNOWN)

    def predicted(self, class_names: Sequence[str]) -> list[int]:
        """Ids of the classes that may be predicted."""
        return _all_but_unknown(class_names, keep=self.predicts_unknown)

    def averaged(self, class_names: Sequence[str]) -> list[int]:
        """Ids of the classes that means are over."""
        return _all_but_unknown(class_names, keep=self.averages_unknown)


def _all_but_unknown(class_names: Sequence[str], *, keep: bool) -> list[int]:
    return [i for i, name in enumerate(class_names) if keep or name != UNKNOWN]


ORIGINAL = Protocol(
    name="original",
    side=512,
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=True,
    columns=("accuracy", "f1", "image_iou", "loss", "pixel_accuracy", "mean_iou"),
    num_images=81,
    comparable_with="the original notebooks' accuracy, F1, IoU and loss (their 81 test images are "
    "another random draw), and other scores of segmentation_models_pytorch with "
    "reduction='micro-imagewise'; not the mIoU of papers",
)


OFFICIAL6 = Protocol(
    name="official6",
    side=None,
    masks_unknown=True,
    predicts_unknown=False,
    averages_unknown=False,
    columns=("mean_iou", "pixel_accuracy"),
    num_images=172,
    comparable_with="mean IoU by the rule of the DeepGlobe 2018 challenge (arXiv 1805.06561); its "
    "leaderboard is of images whose masks are not public, so no other split equals it",
)


GLNET = Protocol(
    name="glnet",
    side=None,
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=False,
    columns=("mean_iou", "pixel_accuracy"),
    num_images=142,
    comparable_with="mIoU (%) of papers on the 454/207/142 split: FCN-8s 71.8, DeepLabv3+ 63.5, "
    "GLNet 71.6, MagNet 72.9, ISDNet 73.3, FCtL 73.5, WSDNet 74.1, GPWFormer 75.8, BPT 76.6 "
    "(arXiv 2412.10181, table 1)",
)


PROTOCOLS = {protocol.name: protocol for protocol in (ORIGINAL, OFFICIAL6, GLNET)}


def predicted_ids(
    probabilities: np.ndarray, protocol: Protocol, class_names: Sequence[str]
) -> np.ndarray:
    """The most probable of the classes that may be predicted.

    Args:
        probabilities: float `(..., num_classes)`.
        protocol: says which they are.
        class_names: of all classes.

    Returns:
        int64 `(...)`, class ids.
    """
    ids = probabilities.argmax(axis=-1)
    if protocol.predicts_unknown:
        return ids
    allowed = np.array(protocol.predicted(class_names))
    # The few pixels whose most probable class may not be predicted are looked at again.
    barred = ~np.isin(np.arange(len(class_names)), allowed)[ids]
    ids[barred] = allowed[probabilities[barred][:, allowed].argmax(axis=-1)]
    return ids


def protocol_matrix(
    mask: np.ndarray, ids: np.ndarray, protocol: Protocol, class_names: Sequence[str]
) -> np.ndarray:
    """The confusion matrix of the pixels that a protocol scores, int64 `(classes, classes)`.

    Args:
        mask: class ids `(height, width)`.
        ids: predicted ones of the same shape, of `predicted_ids`.
        protocol: says which pixels are left out.
        class_names: of all classes.
    """
    return confusion_matrix(
        mask, ids, len(class_names), ignore_class=protocol.ignore_class(class_names)
    )
