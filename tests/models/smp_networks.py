"""Networks with the weights of segmentation_models_pytorch (smp), for comparisons with it."""

import math
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from lcc_tf.models import build_model

NUM_CLASSES = 7

# The stored outputs of smp; `benchmarks.compare_with_smp --write-expected` writes them.
EXPECTED = Path(__file__).parent / "data"
EXPECTED_ENCODER = "resnet18"
# Wide enough that the branches of rates 12, 24 and 36 see more than padding at output stride 8.
EXPECTED_SIZE = (32, 448)
EXPECTED_STEP = 9  # each ninth row and column is kept


def seeded_image(height: int, width: int) -> np.ndarray:
    """An image of noise: float32 `(1, height, width, 3)`, RGB in [0, 255]."""
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32)


def seeded_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays for a state dict, each drawn by a generator of its own, seeded with its name.

    Args:
        shapes: PyTorch's names and shapes.

    Returns:
        float32 arrays of a size that keeps deep networks from running over or dying out.
    """
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(list(name.encode()))
        if len(shape) > 1:  # a kernel, with half the variance of He et al. 2015
            bound = math.sqrt(3 / math.prod(shape[1:]))
            low, high = -bound, bound
        elif name.endswith((".weight", ".running_var")):
            low, high = 0.5, 1.5
        else:
            low, high = -0.2, 0.2
        weights[name] = rng.uniform(low, high, shape).astype(np.float32)
    return weights


def build_keras(arch: str, encoder: str, output_stride: int | None) -> keras.Model:
    """Our network, built as smp builds its own."""
    options = {}
    if arch == "deeplabv3plus":
        options = {
            "output_stride": output_stride,
            "dilation_rates": (12, 24, 36),
            "align_corners": True,
        }
    return build_model(
        arch, NUM_CLASSES, encoder=f"{encoder}_v1.5", encoder_weights=None, **options
    )
