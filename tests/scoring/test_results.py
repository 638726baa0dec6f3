import json

import numpy as np
import pytest

from lcc_tf.scoring.protocols import GLNET, ORIGINAL
from lcc_tf.scoring.results import Evaluation, read_metrics, write_metrics
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def evaluation(*protocols):
    matrices = np.ones((2, 7, 7), np.int64)
    results = {
        protocol.name: {
            "run": scores(
                protocol.for_classes(DEEPGLOBE_CLASSES.names), matrices, matrices.astype(float)
            )
        }
        for protocol in protocols
    }
    return Evaluation("test", 2, DEEPGLOBE_CLASSES, ("run",), results)


@pytest.mark.parametrize("protocols", [[ORIGINAL], [GLNET], [ORIGINAL, GLNET]])
def test_metrics_files_are_read_as_they_were_written(protocols, tmp_path):
    result = evaluation(*protocols)
    write_metrics(result, tmp_path / "metrics.json")
    assert read_metrics(tmp_path / "metrics.json") == result.to_json()


@pytest.mark.parametrize("protocols", [[ORIGINAL], [ORIGINAL, GLNET]])
def test_old_metrics_files_are_read_with_the_new_protocol_name(protocols, tmp_path):
    content = evaluation(*protocols).to_json()
    content["tuning"] = {"protocol": "original", "weights": [1.0]}
    old = json.dumps(content).replace('"original"', '"seed"')
    assert '"seed"' in old
    (tmp_path / "metrics.json").write_text(old)
    assert read_metrics(tmp_path / "metrics.json") == content
    assert list(read_metrics(tmp_path / "metrics.json")) == list(content)
