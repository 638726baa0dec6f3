"""Image for tests of maps."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def image():
    """Image that consists of colored squares of 20 x 20 pixels, and the class ids of the image."""
    ids = np.random.default_rng(0).integers(0, 3, (5, 7)).repeat(20, 0).repeat(20, 1)[:93, :131]
    return np.eye(3)[ids].astype(np.uint8) * 200 + 20, ids
