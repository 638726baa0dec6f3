"""Description of an exported model for other programs, in the file `model.json`."""

import json
from dataclasses import dataclass
from pathlib import Path

from lcc_tf.arguments import check_types
from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import ClassTable

MODEL_FILE = "model.json"
MAX_SIDE = 10**6  # largest side of a tile, pixels


@dataclass(frozen=True)
class Description:
    """Properties of an exported model that its input and output types do not show.

    Attributes:
        classes: names and colors of the output channels.
        tile: side of the tiles for prediction, in pixels of the model's input. For an export of
            runs, the default is the size of the training images.
        scale: number of pixels of the model's images per pixel of the data set's images, along one
            side.
        bands: bands of the model's images; None for RGB in [0, 255].

    Raises:
        InputError: a value has another type or is out of range.
    """

    classes: ClassTable
    tile: int
    scale: float
    bands: Bands | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.scale <= MAX_SIDE or not 1 <= self.tile <= self.scale * MAX_SIDE:
            raise InputError(
                "`tile` and `scale` must be positive, and `tile / scale` must be at most "
                f"{MAX_SIDE} pixels. Received: tile={self.tile}, scale={self.scale}."
            )

    def to_json(self) -> dict:
        """Returns the description as a dictionary of JSON values."""
        return {
            "class_names": self.classes.names,
            "palette": self.classes.palette,
            "tile": self.tile,
            "scale": self.scale,
            "bands": self.bands and self.bands.to_json(),
        }

    def write(self, folder: Path, **more: object) -> None:
        """Writes `model.json`.

        Args:
            folder: existing folder.
            more: additional keys and JSON values of the file.
        """
        (folder / MODEL_FILE).write_text(
            json.dumps(self.to_json() | more, indent=2), encoding="utf-8"
        )

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Reads `model.json`.

        Raises:
            InputError: the file is invalid.
            FileNotFoundError: the file does not exist.
        """
        file = folder / MODEL_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            classes = ClassTable(
                tuple(content["class_names"]), tuple(tuple(color) for color in content["palette"])
            )
            bands = Bands.from_json(content.get("bands"))
            return cls(classes, content["tile"], content["scale"], bands)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise InputError(
                f"{file} cannot be read: {reason[:300].rstrip('.')}. Export the model again."
            ) from error
