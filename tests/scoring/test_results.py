import json

import numpy as np
import pytest

from lcc_tf.scoring.protocols import GLNET, ORIGINAL
from lcc_tf.scoring.results import Evaluation, write_metrics
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def evaluation(*protocols):
    matrices = np.ones((2, 7, 7), np.int64)
    results = {
        protocol.name: {
            "run": scores(protocol.for_classes(DEEPGLOBE_CLASSES), matrices, matrices.astype(float))
        }
        for protocol in protocols
    }
    return Evaluation("test", 2, DEEPGLOBE_CLASSES, ("run",), results)


@pytest.mark.parametrize("protocols", [[ORIGINAL], [ORIGINAL, GLNET]])
def test_metrics_file_contains_the_evaluation(protocols, tmp_path):
    result = evaluation(*protocols)
    write_metrics(result, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.to_json()
