"""Cutting of scenes into tiles with masks, for training.

The tiles of a block of ground are in one folder. Therefore `group_by=folder` keeps neighbors in the
same split.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from tqdm import tqdm

from lcc_tf.band_names import COLORS
from lcc_tf.errors import InputError
from lcc_tf.files import new_folder, not_written, sampled_hash
from lcc_tf.mapping.geodesy import has_areas
from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.tiles.blocks import NO_BLOCK, Blocks
from lcc_tf.tiles.labels import Labels
from lcc_tf.tiles.tile_bands import TileBands
from lcc_tf.tiles.tile_folder import CONTENTS, check_tile_folder, write_record
from tfds_deepglobe.classes import VOID_ID

# If a class has less than this fraction of the labelled pixels, the report contains a warning.
RARE_FRACTION = 1e-3
MIN_TILE = 32  # pixels


@dataclass
class TileReport:
    """Result of `cut_scenes`.

    Attributes:
        pixels: number of pixels per class, int64 `(num_classes,)`.
        num_void: number of void pixels in the written tiles.
        num_tiles: number of written tiles.
        num_masked: number of scenes whose transparency band was removed.
        num_empty: number of tiles that are not written, because all pixels are void.
        num_removed: number of pixels that lost their label, because an earlier scene shows the same
            ground in another block.
        blocks: names of the blocks of ground, which are also names of folders.
        unlabeled: scenes without any labelled pixel.
        marked: scenes with a band that is marked as transparency, but is not a mask.
    """

    pixels: np.ndarray
    num_void: int = 0
    num_tiles: int = 0
    num_empty: int = 0
    num_removed: int = 0
    num_masked: int = 0
    blocks: set[str] = field(default_factory=set)
    unlabeled: list[Path] = field(default_factory=list)
    marked: list[Path] = field(default_factory=list)


def cut_scenes(
    scenes: Sequence[Path],
    labels: Labels,
    output: Path | None,
    *,
    tile_size: int = 512,
    block_tiles: int = 4,
    overwrite: bool = False,
) -> TileReport:
    """Cuts scenes into tiles, and writes them with their masks.

    The tiles have the bands, the values and the georeference of the scenes. Only a transparency
    band is removed: its transparent pixels are void. Tiles without labelled pixels are not written.

    The tiles of a block of ground are in one folder, see `Blocks`. If scenes overlap, pixels are
    void where an earlier scene shows the same ground in another block. Therefore no labelled ground
    is in two blocks.

    Args:
        scenes: georeferenced images.
        labels: polygons with classes.
        output: folder for `images`, `masks` and `class_dict.csv`; None to write nothing.
        tile_size: approximate side of a tile, pixels. All tiles of a scene have about the same
            size.
        block_tiles: side of a block of ground, tiles.
        overwrite: True to replace an earlier folder.

    Raises:
        InputError: a scene cannot be used, or `output` contains other files.
        OSError: the disk is full.
    """
    if tile_size < MIN_TILE:
        raise InputError(
            f"`tile_size` must be {MIN_TILE} pixels or more, because the largest stride of the "
            f"networks is {MIN_TILE}. Received: tile_size={tile_size}."
        )
    report = TileReport(np.zeros(len(labels.names), np.int64))
    with contextlib.ExitStack() as stack:
        folder = None
        if output is not None:
            zones = [zones.path for zones in (labels.polygons, labels.areas) if zones]
            check_tile_folder(output, [*scenes, *zones], overwrite=overwrite)
            folder = stack.enter_context(new_folder(output, contents=CONTENTS, overwrite=overwrite))
        blocks = Blocks(block_tiles)
        earlier: dict[Path, TileBands] = {}
        hashes: dict[str, Path] = {}
        for scene in tqdm(scenes, desc="all scenes", unit="scene", disable=len(scenes) == 1):
            with _readable(scene):
                dataset = rasterio.open(scene)
            with dataset:
                with _readable(scene):
                    bands = TileBands.of(scene, dataset)
                _check_scene(scene, dataset, bands, earlier, hashes)
                before = report.pixels.sum()
                report.num_masked += bool(bands.masks)
                report.marked += [scene] * bool(bands.marked)
                _cut(scene, dataset, bands, labels, blocks, tile_size, folder, report)
                if report.pixels.sum() == before:
                    report.unlabeled.append(scene)
        if not report.pixels.any():
            raise InputError(
                f"The polygons in {labels.polygons.file} contain no valid pixel of the scenes, "
                f"such as {scenes[0]}. Choose other scenes or other polygons."
            )
        if folder is not None:
            rows = [f"{_quoted(name)},{class_id}" for class_id, name in enumerate(labels.names)]
            table = "\n".join(["name,id", *rows, ""])
            (folder / "class_dict.csv").write_text(table, encoding="utf-8")
            write_record(folder)
    return report


def _check_scene(
    scene: Path,
    dataset: rasterio.DatasetReader,
    bands: TileBands,
    earlier: dict[Path, TileBands],
    hashes: dict[str, Path],
) -> None:
    """Checks that a scene can be cut, and that it fits the earlier scenes.

    Raises:
        InputError: the scene has no coordinate system, is a copy, or has other bands than an
            earlier scene.
    """
    if not has_areas(Grid.of(dataset).crs):
        raise InputError(
            f"{scene} has no coordinate system, or a local coordinate system. Therefore polygons "
            "cannot be placed on this scene. Use georeferenced images."
        )
    for path, others in earlier.items():
        is_same_kind = (len(others.names), others.dtype) == (len(bands.names), bands.dtype)
        is_reordered = others.names != bands.names and sorted(others.names) == sorted(bands.names)
        if not is_same_kind or is_reordered:
            found = ", ".join(
                f"{file}: {len(kind.names)} bands of {kind.dtype} ({', '.join(kind.names[:8])})"
                for file, kind in ((path, others), (scene, bands))
            )
            raise InputError(
                f"All scenes must have the same bands and dtype, in the same order. Received: "
                f"{found}. Cut the other scenes into another folder."
            )
    earlier[scene] = bands
    if (copy := hashes.setdefault(sampled_hash(scene), scene)) != scene:
        raise InputError(
            f"All scenes must be different images. Received: {copy} and {scene} with the same "
            "content. Remove one of these scenes."
        )


def _quoted(name: str) -> str:
    """Returns a name as a field of a CSV file."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',";\t') else name


def _cut(
    scene: Path,
    dataset: rasterio.DatasetReader,
    bands: TileBands,
    labels: Labels,
    blocks: Blocks,
    tile_size: int,
    folder: Path | None,
    report: TileReport,
) -> None:
    """Cuts one scene, and adds its tiles to the report and to the blocks."""
    grid = Grid.of(dataset)
    row_parts, column_parts = (_parts(side, tile_size) for side in grid.size)
    rectangles = blocks.rectangles_of(
        grid, (grid.height / len(row_parts), grid.width / len(column_parts))
    )
    total = len(row_parts) * len(column_parts)
    tiles: list[tuple[Grid, int]] = []
    with tqdm(total=total, desc=scene.name, unit="tile", leave=None) as progress:
        for rows in row_parts:
            strip = _part_of(grid, rows, slice(0, grid.width))
            class_ids, owners = labels.class_ids(strip), blocks.owners(strip)
            for columns in column_parts:
                progress.update()
                mask, owner = class_ids[:, columns].copy(), owners[:, columns]
                window = window_of(rows, columns)
                if (mask != VOID_ID).any():
                    with _readable(scene):
                        values = dataset.read(bands.numbers, window=window)
                        mask[~bands.valid(dataset, window, values)] = VOID_ID
                tile = _part_of(grid, rows, columns)
                block = blocks.block_of(tile, rectangles, owner)
                in_other_block = (owner != NO_BLOCK) & (owner != block) & (mask != VOID_ID)
                report.num_removed += int(in_other_block.sum())
                mask[in_other_block] = VOID_ID
                counts = np.bincount(mask.ravel(), minlength=VOID_ID + 1)
                if not counts[:VOID_ID].any():
                    report.num_empty += 1
                    continue
                report.pixels += counts[: len(labels.names)]
                report.num_void += int(counts[VOID_ID])
                report.num_tiles += 1
                report.blocks.add(blocks.names[block])
                tiles.append((tile, block))
                if folder is not None:
                    name = f"{scene.stem}_{rows.start}_{columns.start}"
                    _write_tile(
                        folder, blocks.names[block], name, dataset, bands, window, values, mask
                    )
    blocks.add(tiles)


def _part_of(grid: Grid, rows: slice, columns: slice) -> Grid:
    """Returns the grid of a part of a raster."""
    transform = grid.transform @ rasterio.Affine.translation(columns.start, rows.start)
    return Grid(rows.stop - rows.start, columns.stop - columns.start, grid.crs, transform)


def _parts(side: int, tile_size: int) -> list[slice]:
    """Divides the side of a scene into parts of about the same length.

    Example:
        >>> _parts(1100, 512)
        [slice(0, 550, None), slice(550, 1100, None)]
    """
    count = max(1, round(side / tile_size))
    ends = [round(side * index / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(ends, ends[1:], strict=False)]


def _write_tile(
    folder: Path,
    block: str,
    name: str,
    dataset: rasterio.DatasetReader,
    bands: TileBands,
    window: Window,
    values: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Writes a tile as a GeoTIFF and its mask as PNG.

    Raises:
        OSError: the disk is full.
    """
    for kind in ("images", "masks"):
        (folder / kind / block).mkdir(parents=True, exist_ok=True)
    file_name = folder / "images" / block / f"{name}.tif"
    try:
        with rasterio.open(
            file_name,
            "w",
            driver="GTiff",
            height=mask.shape[0],
            width=mask.shape[1],
            count=len(bands.numbers),
            dtype=values.dtype,
            crs=dataset.crs,
            transform=dataset.window_transform(window),
            nodata=dataset.nodata,
            compress="deflate",
            photometric="RGB" if bands.is_rgb else "MINISBLACK",
        ) as file:
            file.write(values)
            file.descriptions = [
                name if dataset.descriptions[number - 1] or name in COLORS else None
                for number, name in zip(bands.numbers, bands.names, strict=True)
            ]
    except RasterioError as error:
        raise not_written(file_name, error) from error
    Image.fromarray(mask).save(folder / "masks" / block / f"{name}.png")


@contextlib.contextmanager
def _readable(scene: Path) -> Iterator[None]:
    """Converts read errors of GDAL to an `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise InputError(
            f"{scene} cannot be read as an image: {reason}. Use a complete GeoTIFF."
        ) from error
