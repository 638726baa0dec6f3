"""The Python example of the README, line by line, with a small encoder and random weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tensorflow as tf

import lcc_tf
from lcc_tf.data.demo import render_scene
from tests.mapping.scenes import write_scene

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def example():
    section = README.read_text().split("## In Python\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    # ImageNet weights need a download, and a ResNet50 takes minutes on a CPU.
    assert code.count('encoder="resnet50", encoder_weights="imagenet"') == 1
    code = code.replace(
        'encoder="resnet50", encoder_weights="imagenet"', 'encoder="tiny", encoder_weights=None'
    )
    for full_size, small in (("tile=512", "tile=64"), ("epochs=50", "epochs=1")):
        assert code.count(full_size) == 1
        code = code.replace(full_size, small)
    return code


def batches(first, count):
    scenes = [render_scene(0, first + i, 64) for i in range(count)]
    images, masks = (np.stack(arrays) for arrays in zip(*scenes, strict=True))
    masks = masks.astype(np.uint8)
    masks[:, :3] = 255  # pixels without ground truth
    return tf.data.Dataset.from_tensor_slices((images.astype(np.float32), masks)).batch(4)


def test_example_runs_line_by_line(example, tiny_encoder, tmp_path, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    image, _ = render_scene(0, 100, 150)
    write_scene(tmp_path / "scene.tif", image[:, :130])
    other = lcc_tf.models.DeepLabV3Plus(7, encoder=tiny_encoder, encoder_weights=None)
    names = {
        "training": batches(0, 8),
        "validation": batches(8, 4),
        "other": other,
        "image": image,
    }
    exec(compile(example, "README.md", "exec"), names)
    probabilities = names["probabilities"]
    assert probabilities.shape == (150, 150, 7)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    with rasterio.open(tmp_path / "maps" / "scene_classes.tif") as dataset:
        assert dataset.shape == (150, 130)
    assert (tmp_path / "exported" / "onnx" / "model.onnx").exists()
