import pytest

from lcc_tf.errors import InputError
from lcc_tf.exporting.description import Description
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def test_unreadable_description_raises(tmp_path):
    (tmp_path / "model.json").write_text('{"class_names": ["a"], "palette": [[0, 0, 0]]}')
    with pytest.raises(InputError, match="model.json cannot be read.*tile"):
        Description.read(tmp_path)
    Description(DEEPGLOBE_CLASSES, 64, 0.5).write(tmp_path, files={})
    assert Description.read(tmp_path) == Description(DEEPGLOBE_CLASSES, 64, 0.5)
