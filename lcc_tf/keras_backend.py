"""Keras, after a check that it runs on TensorFlow.

`lcc_tf.losses`, `lcc_tf.metrics` and `lcc_tf.models` import Keras from here. A user whose Keras is
set up for JAX or PyTorch then reads one clear error, not a failure deep inside Keras.
"""

import json
import os
import sys
from pathlib import Path

from lcc_tf.errors import InstallationError


def _configured_backend() -> str:
    """Returns the backend that Keras will choose when it is imported, by Keras' own rules."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        return json.loads(Path(folder, "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError):
        return "tensorflow"  # no such file, or one that names no backend


def _check_backend() -> None:
    """Verifies that Keras runs on TensorFlow, or will.

    Raises:
        InstallationError: Keras is imported or configured with another backend.
    """
    imported = sys.modules.get("keras")
    backend = imported.config.backend() if imported else _configured_backend()
    if backend != "tensorflow":
        state = "is already imported with" if imported else "is configured for"
        raise InstallationError(
            "lcc_tf needs Keras with the TensorFlow backend. "
            f"Received: Keras {state} the backend {backend!r}. "
            "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
        )


_check_backend()

import keras  # noqa: E402  only now: importing Keras imports its backend

__all__ = ["keras"]
