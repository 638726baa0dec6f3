import keras
import pytest


@pytest.fixture
def zero_weights(monkeypatch):
    """Replaces random initial weights by zeros, which saves time."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    )
