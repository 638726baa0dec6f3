"""Trained networks as members of an ensemble, each looking at images in the way it was trained."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models.ensemble import check_member_weights, weighted_average
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.prediction.tiling import (
    Predict,
    averaged_over_symmetries,
    predict_as_trained,
    probabilities_of,
)
from lcc_tf.runs import Run, check_same_classes, load_model
from tfds_deepglobe.classes import ClassTable

MODEL_FILE = "model.json"


@dataclass(frozen=True)
class Member:
    """A trained network and the way it looks at images."""

    name: str
    predict_squares: Predict  # of side `image_size`, to probabilities
    framing: str
    image_size: int  # side of the square that the network takes, pixels
    tile: int  # side of the part of a scene that it sees at once, the scene's pixels
    size_divisor: int  # of the squares' side

    @classmethod
    def load(cls, run: Run, *, tta: str = "none") -> "Member":
        """Loads a run's best weights.

        Args:
            run: the run.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tiling.TTA`.

        Raises:
            InputError: it has none, or they cannot be loaded.
        """
        size = run.config.image_size
        model = load_model(run)
        return cls(
            name=run.name,
            predict_squares=averaged_over_symmetries(probabilities_of(model), tta),
            framing=run.config.framing,
            image_size=size,
            tile=round(size / run.scale),
            size_divisor=size_divisor(model),
        )

    @classmethod
    def load_exported(
        cls, folder: Path, image_size: int, scale: float, *, tta: str = "none"
    ) -> "Member":
        """Loads a SavedModel of `export.py`, which takes images of any size.

        Args:
            folder: the SavedModel.
            image_size: side of the squares that its networks were trained to see, its pixels.
            scale: its pixels for a pixel of the scene, a side.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tiling.TTA`.
        """
        loaded = tf.saved_model.load(folder)

        def predict(images: np.ndarray) -> np.ndarray:
            serve = loaded.signatures["serving_default"]
            image = tf.constant(np.rint(images).astype(np.uint8))
            return serve(image=image)["probabilities"].numpy()

        return cls(
            name=folder.name,
            predict_squares=averaged_over_symmetries(predict, tta),
            # One that works at another resolution gets its tiles resized.
            framing="crops" if scale == 1 else "whole",
            image_size=image_size,
            tile=round(image_size / scale),
            size_divisor=1,
        )

    def at_tile(self, tile: int) -> "Member":
        """The same network, seeing parts of another size at once.

        Args:
            tile: their side, the scene's pixels. The network takes squares of the nearest size that
                its strides divide.
        """
        units = round(tile * self.image_size / self.tile / self.size_divisor)
        return dataclasses.replace(self, image_size=max(units, 1) * self.size_divisor, tile=tile)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Probabilities of an image `(height, width, 3)`, at the member's own resolution."""
        return predict_as_trained(
            self.predict_squares, image, framing=self.framing, image_size=self.image_size
        )

    def predict_tiles(self, tiles: np.ndarray) -> np.ndarray:
        """Probabilities of tiles of a scene, at the scene's resolution.

        Args:
            tiles: float32 `(batch, side, side, 3)`; a side of `tile`, or more for "crops".

        Returns:
            float32 `(batch, side, side, num_classes)`.
        """
        side = tiles.shape[1]
        if self.framing == "crops" and side == self.image_size:
            return self.predict_squares(tiles)
        predicted = np.stack([self.predict(tile) for tile in tiles])
        return tf.image.resize(predicted, (side, side), method="bilinear").numpy()


@dataclass(frozen=True)
class Average:
    """How an ensemble averages the probabilities of its members."""

    weights: tuple[float, ...]  # one a member; a member of weight 0 is not looked at
    kind: str  # "probabilities" or "logits"

    def __call__(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Averages float32 `(..., num_classes)` of the same pixels, one of each member."""
        used = [
            (p, weight) for p, weight in zip(probabilities, self.weights, strict=True) if weight
        ]
        return weighted_average(*zip(*used, strict=True), self.kind).numpy()


@dataclass(frozen=True)
class SceneModel:
    """What maps are made by: one network, or several whose probabilities are averaged."""

    classes: ClassTable
    members: Sequence[Member]
    average: Average

    @property
    def tile(self) -> int:
        """Side of the tiles in which each member sees what it was trained to see, pixels."""
        return max(member.tile for member in self.members)

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Probabilities of all members, `(batch, side, side, members * classes)`."""
        return np.concatenate([member.predict_tiles(tiles) for member in self.members], axis=-1)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """The members' probabilities one by one, `(..., classes)` each."""
        return np.split(values, len(self.members), axis=-1)


def load_scene_model(
    runs: Sequence[Run],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
    tta: str = "none",
    tile: int | None = None,
) -> SceneModel:
    """Loads runs for mapping.

    Args:
        runs: at least one, all with the same classes.
        weights: one a run; None for equal ones.
        average: "probabilities" or "logits".
        tta: test-time augmentation, a key of `lcc_tf.prediction.tiling.TTA`.
        tile: side of the tiles, pixels; None for what the runs were trained on.

    Raises:
        InputError: runs that don't go together or can't be loaded, weights that can't be used.
    """
    check_same_classes(runs)
    weights = [1.0] * len(runs) if weights is None else list(weights)
    check_member_weights(weights, len(runs))
    used = [(run, weight) for run, weight in zip(runs, weights, strict=True) if weight]
    members = [Member.load(run, tta=tta) for run, _ in used]
    if tile is not None:
        members = [member.at_tile(tile) for member in members]
    combined = Average(tuple(weight for _, weight in used), average)
    return SceneModel(runs[0].classes, members, combined)


def load_exported_model(folder: Path, *, tta: str = "none", tile: int | None = None) -> SceneModel:
    """Loads a SavedModel of `export.py` for mapping.

    Args:
        folder: the SavedModel.
        tta: test-time augmentation, a key of `lcc_tf.prediction.tiling.TTA`.
        tile: side of the tiles, pixels; None for what its members were trained on.

    Raises:
        InputError: it is none, or not one of `export.py`.
    """
    description = folder / "assets.extra" / MODEL_FILE
    if not description.exists():
        raise InputError(
            f"{folder} is no SavedModel that export.py wrote: it lacks {description}. Give the "
            "folder that `python export.py --format savedmodel` names."
        )
    content = json.loads(description.read_text())
    classes = ClassTable(
        tuple(content["class_names"]), tuple(tuple(color) for color in content["palette"])
    )
    member = Member.load_exported(folder, content["tile"], content["scale"], tta=tta)
    member = member if tile is None else member.at_tile(tile)
    return SceneModel(classes, [member], Average((1.0,), "probabilities"))
