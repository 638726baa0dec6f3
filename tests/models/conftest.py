import keras
import pytest


@pytest.fixture
def zero_weights(monkeypatch):
    """Weights of zeros, which need no random numbers and so less time."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    )
