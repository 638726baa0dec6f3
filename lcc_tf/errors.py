"""The errors that a user can fix: an input, or a package that is not installed."""

from importlib.util import find_spec

# What each extra of the distribution is for, and the modules that it installs. The same packages
# are listed in pyproject.toml.
_EXTRAS = {
    "maps": ("Maps need", ("rasterio", "pyogrio", "pyproj", "shapely")),
    "export": (
        "ONNX and LiteRT files need",
        ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert", "flatbuffers"),
    ),
    "baselines": ("`unet`, `fpn`, `linknet` and `pspnet` need", ("segmentation_models",)),
}


class InputError(ValueError):
    """An input cannot be used; the message says what was received and how to fix it.

    The commands print the message as one line and exit with code 2. A message names Python
    arguments in backticks (`` `batch_size=7` ``), and the commands print the matching option
    (`` `--batch-size 7` ``). Any other exception is a defect and keeps its traceback.

    The data set package `tfds_deepglobe` imports nothing of `lcc_tf` and raises its own
    `tfds_deepglobe.errors.InputError`. Both are `ValueError`s.

    Example:
        >>> raise InputError("`tile` must be 32 or more. Received: tile=8.")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `tile` must be 32 or more. Received: tile=8.
    """


class InstallationError(InputError, ImportError):
    """The Python environment lacks a package, or Keras is set up for another backend.

    It is an `ImportError` too, so that code with an optional import of `lcc_tf` can catch it.
    """


def require_extra(extra: str) -> None:
    """Verifies that the packages of an extra are installed, without importing them.

    Args:
        extra: "maps", "export" or "baselines".

    Raises:
        InstallationError: a package is missing; the message names the extra to install.

    Example:
        >>> require_extra("maps")  # no error where rasterio and the others are installed
    """
    purpose, modules = _EXTRAS[extra]
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InstallationError(
            f"{purpose} {', '.join(missing)}, which {verb} not installed. "
            f"Run: pip install 'lcc_tf[{extra}]'"
        )
