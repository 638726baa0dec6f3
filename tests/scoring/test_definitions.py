import numpy as np
import pytest

from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, ORIGINAL, PROTOCOLS
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

SEVEN = DEEPGLOBE_CLASSES.names


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_every_number_is_defined(protocol):
    matrices = np.ones((2, 7, 7), np.int64)
    result = scores(protocol, matrices, matrices.astype(float), SEVEN)
    explained = definitions(protocol, SEVEN)
    assert set(explained) == set(result)
    assert set(result["intervals"]) < set(result)
    averaged = "7 classes" if protocol is ORIGINAL else "6 classes"
    assert averaged in explained["mean_iou"]
    assert ("truth is unknown" in explained["pixel_accuracy"]) == (protocol is OFFICIAL6)


def test_definitions_of_many_classes_stay_sentences():
    names = (*(f"class {i}" for i in range(29)), "unknown")
    assert "those of all 30 classes for which" in definitions(ORIGINAL, names)["mean_iou"]
    assert "the 29 classes other than unknown for" in definitions(GLNET, names)["mean_iou"]
    assert "class 3" not in "".join(definitions(GLNET, names).values())
    assert "the 2 classes a, b for which" in definitions(GLNET, ("a", "b", "unknown"))["mean_iou"]
