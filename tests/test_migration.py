"""Runs the code blocks for lcc_tf in docs/migration.md with small encoders and random weights."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

DOC = Path(__file__).parents[1] / "docs" / "migration.md"
BLOCKS = [
    block
    for block in re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    if block.startswith("# lcc_tf\n")
]
REPLACEMENTS = {
    'encoder_weights="imagenet"': "encoder_weights=None",
    '"resnet50"': '"tiny"',
    '"resnet34"': '"resnet18"',
    '"resnet101_v1.5"': '"tiny"',
    "epochs=50": "epochs=1",
}


def small_dataset():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    masks = rng.choice([0, 1, 2, 3, 4, 5, 6, 255], (2, 32, 32, 1)).astype(np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, masks)).batch(2)


def test_every_block_starts_with_the_name_of_its_package():
    text = DOC.read_text()
    other_packages = re.findall(r"```python\n# segmentation[-_]models", text)
    assert len(BLOCKS) == 5
    assert len(BLOCKS) + len(other_packages) == text.count("```python")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replacements = dict(REPLACEMENTS)
    if "safetensors" in block:
        from tests.models.test_torch_weights import stored

        replacements['"resnet101_v1.5"'] = '"resnet18_v1.5"'
        safetensors.numpy.save_file(stored("unetpp", None)[0], "unetpp.safetensors")
    for old, new in replacements.items():
        block = block.replace(old, new)
    names = {"train_dataset": small_dataset(), "validation_dataset": small_dataset()}
    exec(compile(block, DOC.name, "exec"), names)
    assert isinstance(names["model"], keras.Model)
