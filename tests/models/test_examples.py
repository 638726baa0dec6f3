"""Examples in the docstrings of networks, losses and metrics."""

import doctest
import importlib

import keras
import numpy as np
import pytest

MODULES = [
    "losses",
    "metrics",
    "models",
    "models.unetpp",
    "models.deeplabv3plus",
    "models.segmentation_models",
    "models.ensemble",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(f"lcc_tf.{name}")
    results = doctest.testmod(module, extraglobs={"np": np, "keras": keras})
    assert results.attempted > 0
    assert results.failed == 0
