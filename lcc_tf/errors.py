"""Errors that a user can fix: an invalid input, or a package that is not installed."""

from importlib.util import find_spec

# Purpose and modules of each extra of the distribution. pyproject.toml lists the same packages.
_EXTRAS = {
    "maps": ("Maps need", ("rasterio", "pyogrio", "pyproj", "shapely")),
    "export": (
        "ONNX and LiteRT files need",
        ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert", "flatbuffers"),
    ),
    "baselines": ("`unet`, `fpn`, `linknet` and `pspnet` need", ("segmentation_models",)),
}


class InputError(ValueError):
    """Error for an input that cannot be used.

    The message contains the received value and a way to fix it. It names Python arguments in
    backticks (`` `batch_size=7` ``). The commands print it in one line, with the matching option
    (`` `--batch-size 7` ``), and exit with code 2. Every other exception is a defect and keeps its
    traceback.

    The package `tfds_deepglobe` imports nothing of `lcc_tf` and raises
    `tfds_deepglobe.errors.InputError`. Both errors are a `ValueError`.

    Example:
        >>> raise InputError("`tile` must be 32 or more. Received: tile=8.")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `tile` must be 32 or more. Received: tile=8.
    """


class InstallationError(InputError, ImportError):
    """Error for a missing package, or for Keras with another backend than TensorFlow.

    It is also an `ImportError`, which code with an optional import of `lcc_tf` can catch.

    Example:
        >>> issubclass(InstallationError, ImportError)
        True
    """


def require_extra(extra: str) -> None:
    """Verifies that the packages of an extra are installed, without importing them.

    Args:
        extra: "maps", "export" or "baselines".

    Raises:
        InstallationError: a package is missing; the message contains the command that installs it.

    Example:
        >>> require_extra("maps")  # no error: the packages are installed
    """
    purpose, modules = _EXTRAS[extra]
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InstallationError(
            f"{purpose} {', '.join(missing)}, which {verb} not installed. "
            f"Run: pip install 'lcc_tf[{extra}]'"
        )
