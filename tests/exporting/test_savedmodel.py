import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel, load_savedmodel
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

SIZES = [(64, 64), (57, 97), (130, 33), (1, 5)]  # height and width, pixels

# Program for a new process, which must not import lcc_tf
CLIENT = """
import sys
import numpy as np
import tensorflow as tf
folder, data = sys.argv[1:]
loaded = tf.saved_model.load(folder)
serve = loaded.signatures["serving_default"]
results = {}
for name, image in np.load(data).items():
    for key, value in serve(image=tf.constant(image)).items():
        results[f"{name}_{key}"] = value.numpy()
table = loaded.signatures["classes"]()
results["class_names"] = table["class_names"].numpy().astype(str)
results["palette"] = table["palette"].numpy()
assert not [name for name in sys.modules if name.startswith(("lcc_tf", "tfds_deepglobe"))]
np.savez(data, **results)
"""


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "savedmodel"
    return output, export_savedmodel(source, output)


def test_process_without_lcc_tf_computes_the_same_probabilities(exported, source, tmp_path):
    rng = np.random.default_rng(0)
    images = {f"{h}x{w}": rng.integers(0, 256, (2, h, w, 3), dtype=np.uint8) for h, w in SIZES}
    data = tmp_path / "data.npz"
    np.savez(data, **images)
    subprocess.run(
        [sys.executable, "-c", CLIENT, str(exported[0]), str(data)], check=True, cwd=tmp_path
    )
    results = np.load(data)
    for name, image in images.items():
        height, width = image.shape[1:3]
        rows = np.pad(np.arange(height), (0, -height % 32), "edge" if height == 1 else "reflect")
        columns = np.pad(np.arange(width), (0, -width % 32), "reflect")
        padded = tf.constant(image[:, rows][:, :, columns], tf.float32)
        expected = source.model(padded, training=False)[:, :height, :width]
        probabilities, class_id = results[f"{name}_probabilities"], results[f"{name}_class_id"]
        assert probabilities.dtype == np.float32
        assert class_id.dtype == np.uint8
        assert probabilities.shape == (2, height, width, 7)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        np.testing.assert_array_equal(class_id, probabilities.argmax(-1))
    assert tuple(results["class_names"]) == DEEPGLOBE_CLASSES.names
    assert (results["palette"] == DEEPGLOBE_CLASSES.palette).all()


def test_savedmodel_agrees_with_the_keras_model(exported, source):
    (file,) = exported[1]
    assert file.agreement.max_difference < 1e-5
    assert file.agreement.fraction == 1
    assert file.agreement.num_pixels == 4 * 72 * 72 + 57 * 97
    assert file.size > 4 * source.model.count_params()


def test_description_is_a_json_file(exported):
    content = json.loads((exported[0] / "assets.extra" / "model.json").read_text())
    assert content["class_names"][4] == "water"
    assert content["palette"][4] == [0, 0, 255]
    assert content["tile"] == 72


@pytest.mark.parametrize("damage", ["missing", "truncated", "zeros", "graph"])
def test_damaged_savedmodel_raises(exported, tmp_path, damage):
    folder = shutil.copytree(exported[0], tmp_path / "model")
    file = next(folder.glob("variables/*.data-*"))
    if damage == "graph":
        file = folder / "saved_model.pb"
    content = file.read_bytes()
    half = content[: len(content) // 2]
    file.write_bytes(half + bytes(len(half)) if damage == "zeros" else half)
    if damage == "missing":
        file.unlink()
    with pytest.raises(InputError, match="cannot be loaded: .*Export the model again"):
        load_savedmodel(folder)
