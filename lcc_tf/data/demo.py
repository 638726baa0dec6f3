"""Archive of procedural scenes, for a first try without a download.

Procedural scenes are synthetic images, drawn by this program, with exact masks. The archive has the
same layout as the DeepGlobe archive from Kaggle.
"""

import csv
import json
import tempfile
from pathlib import Path

from PIL import Image

from lcc_tf.data.demo_scenes import MIN_SIZE, render_scene
from lcc_tf.errors import InputError
from lcc_tf.files import explain_write_errors
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.parallel import ordered_map

# Increase this version if the same arguments render different pixels than before. Then archives of
# the old version are not reused.
VERSION = 1
PARAMETERS_FILE = "demo.json"

MIN_COUNT = 3  # at least one scene for each of the splits train, validation and test
_JPEG_QUALITY = 92


def write_demo_archive(
    directory: str | Path, *, count: int = 160, size: int = 256, seed: int = 0
) -> Path:
    """Writes an archive of procedural scenes, unless the same archive already exists.

    The archive contains `train/<id>_sat.jpg`, `train/<id>_mask.png`, `class_dict.csv`,
    `metadata.csv` and `demo.json`, which contains the arguments. The folder does not exist until it
    is complete. If you increase `count`, the first scenes stay the same.

    Args:
        directory: folder to write.
        count: number of scenes.
        size: side of each scene, pixels.
        seed: random seed of all scenes.

    Returns:
        `directory`.

    Raises:
        InputError: `directory` exists and was not written with the same arguments, or an argument
            is out of range.
        OSError: A file cannot be written.

    Example:
        >>> directory = write_demo_archive("demo", count=3, size=64)
        >>> sorted(path.name for path in directory.iterdir())
        ['class_dict.csv', 'demo.json', 'metadata.csv', 'train']
    """
    for name, value, minimum in (("count", count, MIN_COUNT), ("size", size, MIN_SIZE)):
        if value < minimum:
            raise InputError(f"`{name}` must be {minimum} or more. Received: {name}={value}.")
    if seed < 0:
        raise InputError(f"`seed` must not be negative. Received: seed={seed}.")
    directory = Path(directory)
    parameters = {"version": VERSION, "count": count, "size": size, "seed": seed}
    if _read_parameters(directory) == parameters:
        return directory
    if directory.exists():
        raise InputError(
            f"{directory} already exists and contains other files or scenes. "
            f"Received: {_read_parameters(directory) or f'no readable {PARAMETERS_FILE}'}. "
            f"Expected: {parameters}. Delete the folder, or choose another `directory`."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        archive = Path(scratch, directory.name)
        with explain_write_errors(directory):
            _write_scenes(archive, count, size, seed)
            (archive / PARAMETERS_FILE).write_text(json.dumps(parameters) + "\n", encoding="utf-8")
        try:
            archive.rename(directory)
        except OSError:  # another process may have written the same archive
            if _read_parameters(directory) != parameters:
                raise
    return directory


def _read_parameters(directory: Path) -> dict[str, int] | None:
    try:
        return json.loads((directory / PARAMETERS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_scenes(archive: Path, count: int, size: int, seed: int) -> None:
    (archive / "train").mkdir(parents=True)

    def write(index: int) -> tuple[str, str, str, str]:
        image, mask = render_scene(seed, index, size)
        image_id = f"demo_{index:06d}"
        names = FileNames.parse()
        image_path, mask_path = (
            f"train/{pattern.name_of(image_id)}" for pattern in (names.images, names.masks)
        )
        Image.fromarray(image).save(archive / image_path, quality=_JPEG_QUALITY)
        Image.fromarray(DEEPGLOBE_CLASSES.colorize(mask)).save(archive / mask_path)
        return image_id, "train", image_path, mask_path

    scenes = list(ordered_map(write, range(count), "rendering demo scenes"))
    columns = ("image_id", "split", "sat_image_path", "mask_path")
    _write_csv(archive / "metadata.csv", [columns, *scenes])
    classes = zip(DEEPGLOBE_CLASSES.names, DEEPGLOBE_CLASSES.palette, strict=True)
    rows = [("name", "r", "g", "b"), *((name, *color) for name, color in classes)]
    _write_csv(archive / "class_dict.csv", rows)


def _write_csv(path: Path, rows: list[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
