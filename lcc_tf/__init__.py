"""Land-cover maps from satellite images with TensorFlow and Keras 3.

`import lcc_tf` changes no environment variables, import paths or warning filters. TensorFlow and
Keras are imported at the first use of a name that needs them.

`keras.saving.load_model` can load a model of `lcc_tf` only after the layers, losses and metrics of
`lcc_tf` are registered with Keras. `import lcc_tf.models` always registers them. `import lcc_tf`
registers them only if Keras is already imported.

Example:
    >>> import lcc_tf
    >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError, InstallationError

if TYPE_CHECKING:  # only for editors and type checkers; `__getattr__` imports the names at run time
    from lcc_tf import losses, metrics, models
    from lcc_tf.bands import Bands
    from lcc_tf.exporting.agreement import AgreementError
    from lcc_tf.exporting.export import export
    from lcc_tf.mapping.map_scene import map_scene
    from lcc_tf.prediction.predictors import predict_tiled
    from lcc_tf.scoring.evaluate import evaluate
    from lcc_tf.scoring.results import Evaluation
    from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

__version__ = "0.2.0"

__all__ = [
    "DEEPGLOBE_CLASSES",
    "AgreementError",
    "Bands",
    "ClassTable",
    "Evaluation",
    "InputError",
    "InstallationError",
    "__version__",
    "evaluate",
    "export",
    "losses",
    "map_scene",
    "metrics",
    "models",
    "predict_tiled",
]

_SUBMODULES = ("losses", "metrics", "models")
# Key: public name. Value: module that defines the name.
_MODULES = {
    "DEEPGLOBE_CLASSES": "tfds_deepglobe.classes",
    "AgreementError": "lcc_tf.exporting.agreement",
    "Bands": "lcc_tf.bands",
    "ClassTable": "tfds_deepglobe.classes",
    "Evaluation": "lcc_tf.scoring.results",
    "evaluate": "lcc_tf.scoring.evaluate",
    "export": "lcc_tf.exporting.export",
    "map_scene": "lcc_tf.mapping.map_scene",
    "predict_tiled": "lcc_tf.prediction.predictors",
}


def __getattr__(name: str) -> object:
    """Imports a public name at its first use (PEP 562)."""
    if name in _SUBMODULES:
        return import_module(f"lcc_tf.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] != "tfds_deepglobe.classes":
        import_module("lcc_tf.keras_backend")  # raises an error if the backend is not TensorFlow
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, including names that are not imported yet."""
    return sorted({*globals(), *__all__})


# Register the layers, losses and metrics, so that `keras.saving.load_model` finds them.
if "keras" in sys.modules:
    for _name in _SUBMODULES:
        import_module(f"lcc_tf.{_name}")
