"""Search for the image files that are mapped."""

import glob
from collections.abc import Sequence
from pathlib import Path

from lcc_tf.errors import InputError
from lcc_tf.files import check_no_file
from lcc_tf.mapping.outputs import PLAIN_SUFFIXES, Outputs, sidecars
from tfds_deepglobe.decoding import read_orientation

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".webp", ".bmp", *PLAIN_SUFFIXES)


def find_images(inputs: Sequence[str], output: Path, argument: str = "input") -> list[Path]:
    """Finds image files from paths of files, paths of folders and patterns.

    Args:
        inputs: paths of files, paths of folders, or patterns such as "a/*.tif". Only patterns with
            `**` search subfolders.
        output: folder in which the maps are written.
        argument: name of the argument with which the user sets `inputs`, for error messages.

    Returns:
        The files in the order of `inputs`. A file that is found twice is returned once.

    Raises:
        InputError: an input matches no image, two images have the same name, or `output` is also
            one of the folders in `inputs`.
    """
    images: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            if path.resolve() == output.resolve():
                raise InputError(
                    f"`output` must not be a folder in `{argument}`. Received: {output}. The next "
                    "call would read the images in this folder. Choose another `output`."
                )
            # Hidden files, such as `._scene.tif` of macOS, are not images.
            found = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            )
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not found:
            raise InputError(
                f"`{argument}` must match image files. Received: {text!r}, which matches no image. "
                f"Use files, folders with images ({', '.join(SUFFIXES)}), or a pattern such as "
                "'scenes/*.tif'."
            )
        images |= dict.fromkeys(found)
    by_stem: dict[str, Path] = {}
    for image in images:
        if (namesake := by_stem.setdefault(image.stem, image)) != image:
            raise InputError(
                f"Images must have different names. Received: {namesake} and {image}. Their maps "
                "would have the same name. Map these images in separate calls with different "
                "`output` folders."
            )
    return list(images)


def orientation_line(images: Sequence[Path]) -> str:
    """Describes the images with an orientation tag in one line.

    Scanners and cameras write these tags. Training, evaluation and maps use the stored pixels.

    Args:
        images: image files.

    Returns:
        The line; an empty string if no image has such a tag.
    """
    turned = {image: tag for image in images if (tag := read_orientation(image)) != 1}
    if not turned:
        return ""
    image, tag = next(iter(turned.items()))
    return (
        f"{len(turned)} of {len(images)} images have an orientation tag, such as {image} ({tag}). "
        "The tags are not applied: the maps fit the pixels as they are stored."
    )


def check_inputs_remain(images: Sequence[Path], outputs: Outputs) -> None:
    """Verifies that no output file can replace or delete an input file.

    Args:
        images: image files.
        outputs: files that are written for each image.

    Raises:
        InputError: an image or the file of the zones has the path of an output file.
    """
    inputs = {image.resolve() for image in images}
    if outputs.zones:
        inputs.add(outputs.zones.path.resolve())
    for image in images:
        for file in outputs.all_files(image):
            if file.resolve() in inputs:
                raise InputError(
                    f"`output` must not contain the input {file}, because a file of the map of "
                    f"{image} has the same name. Choose another `output`."
                )


def images_to_map(
    images: Sequence[Path], outputs: Outputs, *, resume: bool, overwrite: bool
) -> list[Path]:
    """Returns the images that must be mapped.

    Args:
        images: image files.
        outputs: files that are written for each image.
        resume: True to skip an image if all its output files exist.
        overwrite: True to replace existing output files.

    Raises:
        InputError: one of these reasons:

            - An output file exists, and both `resume` and `overwrite` are False.
            - The output folder is a file, or an output file can replace an input file.
    """
    check_no_file(outputs.folder)
    check_inputs_remain(images, outputs)
    todo = []
    for image in images:
        files = outputs.files(image).values()
        existing = [file for file in files if file.exists()]
        if folders := [file for file in existing if file.is_dir()]:
            raise InputError(
                f"{folders[0]} is a folder, but a file of a map has this name. Choose another "
                "`output`."
            )
        if len(existing) == len(files) and resume:
            continue
        beside = sidecars([file for file in files if not file.exists()])
        existing += [file for file in beside if file.exists()]
        if existing and not (overwrite or resume):
            raise InputError(
                f"{existing[0]} already exists. Skip mapped images with `resume=True`, replace "
                "existing files with `overwrite=True`, or choose another `output`."
            )
        todo.append(image)
    return todo
