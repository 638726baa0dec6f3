import dataclasses

import numpy as np
import pytest

from lcc_tf.data.statistics import class_pixels
from lcc_tf.errors import InputError
from lcc_tf.training.label_rules import LabelRules, label_rules_of
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.fake_archive import write_pair
from tfds_deepglobe.prepare import prepare


def test_class_weights_and_ignored_class_of_a_data_set(tiny_config, builder):
    def rules(**options):
        return label_rules_of(dataclasses.replace(tiny_config, **options), builder)

    assert rules() == LabelRules(7, 6)
    assert rules(ignore_class="water") == LabelRules(7, 4)
    assert rules(ignore_class=None, class_weights=(1.0,) * 7) == LabelRules(7, None, (1.0,) * 7)
    weights = rules(class_weights="inverse_frequency").class_weights
    pixels = class_pixels(builder).sum(axis=0)
    assert weights[6] == 0  # ignored
    present = [i for i in range(6) if pixels[i]]
    np.testing.assert_allclose(
        [weights[i] * pixels[i] for i in present],
        [weights[present[0]] * pixels[present[0]]] * len(present),
        rtol=1e-5,
    )
    with pytest.raises(InputError, match="no class 'meadow' to ignore.*urban_land"):
        rules(ignore_class="meadow")
    with pytest.raises(InputError, match="each of the 7 classes.*1.0, 2.0"):
        rules(class_weights=(1.0, 2.0))


def test_data_set_with_a_single_class_raises(tiny_config, tmp_path):
    for i in range(3):
        write_pair(tmp_path, str(i), classes=ClassTable(("land",), ((1, 2, 3),)))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nland,1,2,3\n")
    builder = prepare(tmp_path, tmp_path / "cache")
    with pytest.raises(InputError, match="the class 'land' only. List at least two"):
        label_rules_of(tiny_config, builder)
