"""Input images of a mapping."""

import glob
from collections.abc import Sequence
from pathlib import Path

from lcc_tf.errors import InputError
from lcc_tf.files import check_no_file
from lcc_tf.mapping.outputs import PLAIN_SUFFIXES, Outputs

SUFFIXES = (".tif", ".tiff", *PLAIN_SUFFIXES)


def find_images(inputs: Sequence[str], output: Path) -> list[Path]:
    """Finds the image files in files, folders and patterns, each once, in order.

    Args:
        inputs: files; folders, for the images directly in them; or patterns such as "a/*.tif".
        output: folder for the maps.

    Raises:
        InputError: an input matches no image; two images would get maps of the same name; or the
            maps would be written into a folder of images.
    """
    images: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            if path.resolve() == output.resolve():
                raise InputError(
                    f"Maps in {output} would become input images of the next call. Choose another "
                    "`output`."
                )
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not found:
            raise InputError(
                f"There is no image at {text!r}. Use files, folders with "
                f"{', '.join(SUFFIXES)}, or a pattern such as 'scenes/*.tif'."
            )
        images |= dict.fromkeys(found)
    by_stem: dict[str, Path] = {}
    for image in images:
        if (namesake := by_stem.setdefault(image.stem, image)) != image:
            raise InputError(
                f"{namesake} and {image} would get maps of the same name. Map them separately, "
                "with another `output` for each."
            )
    return list(images)


def images_to_map(
    images: Sequence[Path], outputs: Outputs, *, resume: bool, overwrite: bool
) -> list[Path]:
    """Returns the images that must be mapped.

    Args:
        images: all images.
        outputs: files that are written for each image.
        resume: skips images whose files all exist.
        overwrite: replaces files that exist.

    Raises:
        InputError: files exist, and neither `resume` nor `overwrite` is set; or the folder's path
            is a file.
    """
    check_no_file(outputs.folder)
    todo = []
    for image in images:
        files = outputs.files(image).values()
        existing = [file for file in files if file.exists()]
        if len(existing) == len(files) and resume:
            continue
        if existing and not (overwrite or resume):
            raise InputError(
                f"{existing[0]} already exists. Skip mapped images with `resume=True`, replace "
                "them with `overwrite=True`, or choose another `output`."
            )
        todo.append(image)
    return todo
