"""Imports Keras after a check of its backend, which must be TensorFlow.

`lcc_tf.losses`, `lcc_tf.metrics` and `lcc_tf.models` import Keras from this module. If Keras is
configured for JAX or PyTorch, this module raises a clear error. Without this check, the code would
fail later, inside Keras.
"""

import json
import os
import sys
from pathlib import Path

from lcc_tf.errors import InstallationError


def _configured_backend() -> str:
    """Returns the backend that Keras will choose when it is imported.

    Keras first reads the environment variable `KERAS_BACKEND`, then the file `keras.json`.
    """
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        return json.loads(Path(folder, "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError):
        return "tensorflow"  # no file, or no backend in the file


def _check_backend() -> None:
    """Verifies that the backend of Keras is TensorFlow.

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

# Import Keras after the check, because Keras imports its backend.
import keras  # noqa: E402

__all__ = ["keras"]
