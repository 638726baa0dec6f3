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
import pyproj
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from tqdm import tqdm

from lcc_tf.band_names import COLORS
from lcc_tf.errors import InputError
from lcc_tf.files import check_new_folder, new_folder, not_written
from lcc_tf.mapping.color_bands import alpha_bands, masked_fraction
from lcc_tf.mapping.geodesy import has_areas
from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.tiles.labels import Labels
from tfds_deepglobe.classes import VOID_ID

CONTENTS = {"images", "masks", "class_dict.csv"}  # files and folders in the output folder
# If a class has less than this fraction of the labelled pixels, the report contains a warning.
RARE_FRACTION = 1e-3
MIN_TILE = 32  # pixels
EQUAL_AREA = "EPSG:6933"  # for scenes in degrees


@dataclass
class TileReport:
    """Result of `cut_scenes`.

    Attributes:
        pixels: number of pixels per class, int64 `(num_classes,)`.
        num_void: number of void pixels in the written tiles.
        num_tiles: number of written tiles.
        num_masked: number of scenes whose transparency band was removed.
        num_empty: number of tiles that are not written, because all pixels are void.
        blocks: names of the blocks of ground, which are also names of folders.
        unlabeled: scenes without any labelled pixel.
    """

    pixels: np.ndarray
    num_void: int = 0
    num_tiles: int = 0
    num_empty: int = 0
    num_masked: int = 0
    blocks: set[str] = field(default_factory=set)
    unlabeled: list[Path] = field(default_factory=list)


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

    A block of ground has the size of `block_tiles` x `block_tiles` tiles of the first scene. Each
    tile is in the folder of the block that contains the center of the tile. Pixels of the tile that
    are in other blocks are void. Therefore no labelled ground is in two blocks, even if scenes
    overlap.

    Args:
        scenes: georeferenced images.
        labels: polygons with classes.
        output: folder for `images`, `masks` and `class_dict.csv`; None to write nothing.
        tile_size: approximate side of a tile, pixels. All tiles of a scene have about the same
            size.
        block_tiles: side of a block of ground, tiles.
        overwrite: True to replace an earlier folder.

    Raises:
        InputError: a scene cannot be read or has no coordinate system, or `output` exists.
        OSError: the disk is full.
    """
    if tile_size < MIN_TILE:
        raise InputError(
            f"`tile_size` must be {MIN_TILE} pixels or more, because the largest stride of the "
            f"networks is {MIN_TILE}. Received: tile_size={tile_size}."
        )
    report = TileReport(np.zeros(len(labels.names), np.int64))
    if output is not None:
        check_new_folder(output, contents=CONTENTS, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        folder = None
        if output is not None:
            folder = stack.enter_context(new_folder(output, contents=CONTENTS, overwrite=overwrite))
        blocks = None
        kinds: dict[str, Path] = {}
        for scene in tqdm(scenes, desc="all scenes", unit="scene", disable=len(scenes) == 1):
            with _readable(scene):
                dataset = rasterio.open(scene)
            with dataset:
                with _readable(scene):
                    bands, has_mask = _bands_of(dataset)
                kinds.setdefault(_kind(dataset, bands), scene)
                if len(kinds) > 1:
                    found = ", ".join(f"{path}: {kind}" for kind, path in kinds.items())
                    raise InputError(
                        f"All scenes must have the same bands and dtype. Received: {found}. Cut "
                        "the other scenes into another folder."
                    )
                if not has_areas(Grid.of(dataset).crs):
                    raise InputError(
                        f"{scene} has no coordinate system, or a local coordinate system. "
                        "Therefore polygons cannot be placed on this scene. Use georeferenced "
                        "images."
                    )
                blocks = blocks or _Blocks.of(dataset, tile_size, block_tiles)
                before = report.pixels.sum()
                report.num_masked += has_mask
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
            (folder / "class_dict.csv").write_text("\n".join(["name,id", *rows, ""]))
    return report


def _quoted(name: str) -> str:
    """Returns a name as a field of a CSV file."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',";\t') else name


@dataclass(frozen=True)
class _Blocks:
    """Rectangular blocks of ground.

    If the rows of the first scene run from west to east, its blocks consist of whole tiles.

    Attributes:
        crs: projected coordinate system.
        left: x coordinate of the left side of block 0.
        top: y coordinate of the top of block 0.
        sides: width and height of a block, units of `crs`.
    """

    crs: pyproj.CRS
    left: float
    top: float
    sides: tuple[float, float]

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader, tile_size: int, block_tiles: int) -> "_Blocks":
        """Defines blocks that begin at the northwest corner of a scene."""
        crs = pyproj.CRS.from_user_input(dataset.crs.to_wkt())
        if not crs.is_projected:
            crs = pyproj.CRS.from_user_input(EQUAL_AREA)
        height, width = dataset.shape
        x, y = _located(
            dataset, crs, np.array([0, 0, width, width]), np.array([0, height, 0, height])
        )
        sides = [
            float(np.ptp(values)) / len(_parts(side, tile_size)) * block_tiles
            for values, side in ((x, width), (y, height))
        ]
        return cls(crs, float(x.min()), float(y.max()), (sides[0], sides[1]))

    def numbers(self, dataset: rasterio.DatasetReader, rows: slice, columns: slice) -> np.ndarray:
        """Returns the numbers of the blocks that contain the pixels of a tile.

        Only the corners of the tile are transformed to `crs`. The coordinates of the pixels are
        interpolated between the corners.

        Returns:
            int64 `(height, width, 2)`: column and row of the block of each pixel.
        """
        down, right = (
            (np.arange(part.stop - part.start) + 0.5) / (part.stop - part.start)
            for part in (rows, columns)
        )
        xs, ys = [columns.start, columns.stop] * 2, [rows.start] * 2 + [rows.stop] * 2
        corners = _located(dataset, self.crs, np.array(xs), np.array(ys))
        numbers = []
        starts = self.left, self.top
        for values, start, side, sign in zip(corners, starts, self.sides, (1, -1), strict=True):
            top, bottom = (a * (1 - right) + b * right for a, b in values.reshape(2, 2))
            positions = top * (1 - down[:, None]) + bottom * down[:, None]
            # Ignore rounding errors at the borders of the blocks.
            numbers.append(np.floor((positions - start) * sign / side + 1e-9))
        return np.stack(numbers, axis=-1).astype(np.int64)


def _located(
    dataset: rasterio.DatasetReader, crs: pyproj.CRS, columns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Converts columns and rows of a scene to coordinates in the system `crs`."""
    x, y = dataset.transform @ (columns, rows)
    try:
        transformer = pyproj.Transformer.from_crs(dataset.crs.to_wkt(), crs, always_xy=True)
        points = transformer.transform(x, y)
    except pyproj.exceptions.ProjError as error:  # for example, a scene on the Moon
        raise InputError(
            f"All scenes must be on the Earth. Received: {dataset.name}: {error}"
        ) from error
    return tuple(map(np.asarray, points))


def _cut(
    scene: Path,
    dataset: rasterio.DatasetReader,
    bands: Sequence[int],
    labels: Labels,
    blocks: _Blocks,
    tile_size: int,
    folder: Path | None,
    report: TileReport,
) -> None:
    """Cuts one scene, and adds its tiles to the report."""
    grid = Grid.of(dataset)
    row_parts, column_parts = (_parts(side, tile_size) for side in grid.size)
    total = len(row_parts) * len(column_parts)
    with tqdm(total=total, desc=scene.name, unit="tile", leave=None) as progress:
        for rows in row_parts:
            strip = Grid(
                rows.stop - rows.start,
                grid.width,
                grid.crs,
                grid.transform @ rasterio.Affine.translation(0, rows.start),
            )
            class_ids = labels.class_ids(strip)
            for columns in column_parts:
                progress.update()
                mask = class_ids[:, columns]
                numbers = blocks.numbers(dataset, rows, columns)
                center = numbers[len(numbers) // 2, numbers.shape[1] // 2]
                mask = np.where((numbers == center).all(axis=-1), mask, VOID_ID).astype(np.uint8)
                window = window_of(rows, columns)
                if (mask != VOID_ID).any():
                    with _readable(scene):
                        mask[~_valid(dataset, bands, window)] = VOID_ID
                counts = np.bincount(mask.ravel(), minlength=VOID_ID + 1)
                if not counts[:VOID_ID].any():
                    report.num_empty += 1
                    continue
                block = f"block_{center[0]:+d}_{center[1]:+d}"
                report.pixels += counts[: len(labels.names)]
                report.num_void += int(counts[VOID_ID])
                report.num_tiles += 1
                report.blocks.add(block)
                if folder is not None:
                    name = f"{scene.stem}_{rows.start}_{columns.start}"
                    with _readable(scene):
                        values = dataset.read(bands, window=window)
                    _write_tile(folder, block, name, dataset, bands, window, values, mask)


def _bands_of(dataset: rasterio.DatasetReader) -> tuple[list[int], bool]:
    """Returns the bands of the tiles, and True if a transparency mask is not one of these bands.

    Many programs mark any fourth band as transparency, even near infrared. If the values of this
    band are not a mask, the band is kept. Red, green and blue are returned in this order, because
    training reads RGB images in this order.
    """
    alpha = alpha_bands(dataset)
    masks = [band for band in alpha if masked_fraction(dataset, band) is not None]
    bands = [band for band in dataset.indexes if band not in masks]
    kinds = [dataset.colorinterp[band - 1].name for band in bands]
    if sorted(kinds) == sorted(COLORS):
        bands = [bands[kinds.index(color)] for color in COLORS]
    return bands, bool(masks)


def _valid(dataset: rasterio.DatasetReader, bands: Sequence[int], window: Window) -> np.ndarray:
    """Returns False for nodata and transparent pixels, bool `(height, width)`."""
    alpha = set(alpha_bands(dataset))
    if not alpha & set(bands):
        valid = dataset.dataset_mask(window=window) > 0
        for band in alpha:  # GDAL uses transparency only in images with two or four bands
            valid &= dataset.read(band, window=window) > 0
        return valid
    # `dataset_mask` would use the band that is marked as transparency, but is not a mask.
    values = dataset.read(bands, window=window)
    if dataset.nodata is None:
        return np.ones(values.shape[1:], bool)
    return (values != dataset.nodata).any(axis=0)


def _kind(dataset: rasterio.DatasetReader, bands: Sequence[int]) -> str:
    """Describes the bands of the tiles, such as "3 bands of uint8"."""
    dtypes = [dataset.dtypes[band - 1] for band in bands]
    return f"{len(bands)} bands of {', '.join(dict.fromkeys(dtypes))}"


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
    bands: Sequence[int],
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
    colors = [dataset.colorinterp[band - 1] for band in bands]
    is_rgb = colors[:3] == [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    file_name = folder / "images" / block / f"{name}.tif"
    try:
        with rasterio.open(
            file_name,
            "w",
            driver="GTiff",
            height=mask.shape[0],
            width=mask.shape[1],
            count=len(bands),
            dtype=values.dtype,
            crs=dataset.crs,
            transform=dataset.window_transform(window),
            nodata=dataset.nodata,
            compress="deflate",
            photometric="RGB" if is_rgb else "MINISBLACK",
        ) as file:
            file.write(values)
            file.descriptions = [
                dataset.descriptions[band - 1] or (kind.name if kind.name in COLORS else None)
                for band, kind in zip(bands, colors, strict=True)
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
