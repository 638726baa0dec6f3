import json

import pytest

from lcc_tf.errors import InputError
from lcc_tf.exporting.description import MODEL_FILE, Description
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.mark.parametrize(("tile", "scale"), [(512, 1.0), (512, 1), (128, 0.05)])
def test_written_description_is_read(tmp_path, tile, scale):
    description = Description(DEEPGLOBE_CLASSES, tile, scale)
    description.write(tmp_path, format="onnx")
    assert Description.read(tmp_path) == description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 0}, "`tile` and `scale` must be positive.*tile=0"),
        ({"tile": "512"}, "`tile` must be a whole number. Received: '512'"),
        ({"tile": 10**9}, "at most 1000000 pixels. Received: tile=1000000000"),
        ({"scale": 0}, "must be positive.*scale=0"),
        ({"scale": -1.0}, "must be positive.*scale=-1.0"),
        ({"scale": 1e-9}, "at most 1000000.*scale=1e-09"),
        ({"scale": float("nan")}, "`scale` must be a finite number. Received: nan"),
        ({"scale": None}, "`scale` must be a finite number. Received: None"),
        ({"class_names": None}, "TypeError"),
        ({"palette": [[0.5, 0, 0]]}, "7 names, 1 colors"),
    ],
)
def test_hand_edited_descriptions_raise(tmp_path, changes, message):
    content = Description(DEEPGLOBE_CLASSES, 512, 1.0).to_json()
    (tmp_path / MODEL_FILE).write_text(json.dumps(content | changes))
    with pytest.raises(InputError, match=f"model.json cannot be read: .*{message}"):
        Description.read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", "{}", "{", "[" * 10**5])
def test_files_that_are_not_descriptions_raise(tmp_path, text):
    (tmp_path / MODEL_FILE).write_text(text)
    with pytest.raises(InputError, match="model.json cannot be read: "):
        Description.read(tmp_path)
