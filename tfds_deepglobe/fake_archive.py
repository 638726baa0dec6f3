"""Small raw archives for tests, with images of random noise and masks that contain all classes."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable


def write_pair(
    folder: Path,
    image_id: str,
    *,
    size: tuple[int, int] = (32, 24),
    classes: ClassTable = DEEPGLOBE_CLASSES,
) -> None:
    """Writes `<image_id>_sat.jpg` and `<image_id>_mask.png`.

    The pixels are random. The id is their random seed.

    Args:
        folder: folder to write to. It is created if it does not exist.
        image_id: id of the image and the mask.
        size: `(width, height)`, pixels.
        classes: class table with the colors of the mask.
    """
    width, height = size
    random = np.random.default_rng(list(image_id.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(image).save(folder / f"{image_id}_sat.jpg")
    class_ids = np.arange(height * width).reshape(height, width) // 8 % classes.num_classes
    mask = classes.colorize(random.permutation(class_ids))
    Image.fromarray(mask).save(folder / f"{image_id}_mask.png")


def write_kaggle_folder(root: Path, count: int = 5) -> Path:
    """Writes a folder with the same layout as the archive from Kaggle.

    The ids of the images with masks are 100, 101 and so on. Two images have no masks.

    Args:
        root: folder to write.
        count: number of images with masks.

    Returns:
        `root`.
    """
    for i in range(count):
        write_pair(root / "train", str(100 + i))
    for folder, image_id in (("valid", "900"), ("test", "901")):
        write_pair(root / folder, image_id)
        (root / folder / f"{image_id}_mask.png").unlink()
    (root / "metadata.csv").write_text("image_id,split\n", encoding="utf-8")
    rows = zip(DEEPGLOBE_CLASSES.names, DEEPGLOBE_CLASSES.palette, strict=True)
    lines = ["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)]
    (root / "class_dict.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def zip_folder(folder: Path, path: Path, top: str = "") -> Path:
    """Writes a folder as a zip.

    Args:
        folder: folder with the files.
        path: path of the zip to write.
        top: folder in the zip that contains all files, such as "archive/"; `""` for the root.

    Returns:
        `path`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, top + file.relative_to(folder).as_posix())
    return path
