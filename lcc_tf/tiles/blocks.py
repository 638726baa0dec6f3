"""Blocks of ground: neighboring tiles, which must be in the same split."""

from dataclasses import dataclass, field

import numpy as np
import rasterio
import shapely

from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.polygon_pixels import pixels_inside

# If the sides of the blocks of two scenes differ by at most this factor, both scenes use the same
# rectangles.
SIMILAR = 1.5
NO_BLOCK = -1


@dataclass(frozen=True)
class Rectangles:
    """Division of a coordinate system into rectangles.

    Attributes:
        prefix: first part of the names of the blocks.
        crs: coordinate system.
        left: x coordinate of the left side of rectangle 0.
        top: y coordinate of the top of rectangle 0.
        sides: width and height of a rectangle, units of `crs`.
    """

    prefix: str
    crs: rasterio.CRS
    left: float
    top: float
    sides: tuple[float, float]

    def name_at(self, x: float, y: float) -> str:
        """Returns the name of the block that contains a point."""
        column = (x - self.left) / self.sides[0]
        row = (self.top - y) / self.sides[1]
        return f"{self.prefix}_{int(np.floor(column)):+d}_{int(np.floor(row)):+d}"


@dataclass
class Blocks:
    """Blocks of ground with about `block_tiles` x `block_tiles` tiles.

    The block of a tile is a rectangle of ground that contains the center of the tile. Scenes with
    the same coordinate system and tiles of similar size have the same rectangles.

    If scenes overlap, ground belongs to the first tile that shows this ground. If a tile of an
    earlier scene contains the center of another tile, both tiles are in the same block.

    Args:
        block_tiles: side of a block, tiles.

    Attributes:
        names: names of the blocks.
    """

    block_tiles: int
    names: list[str] = field(init=False, default_factory=list)
    _numbers: dict[str, int] = field(init=False, default_factory=dict)
    _divisions: list[Rectangles] = field(init=False, default_factory=list)
    # For each earlier scene and each block: coordinate system, ground of the tiles, block number
    _shown: list[tuple[rasterio.CRS, shapely.Geometry, int]] = field(
        init=False, default_factory=list
    )

    def rectangles_of(self, grid: Grid, tile_size: tuple[float, float]) -> Rectangles:
        """Returns the rectangles of a scene.

        Args:
            grid: the scene.
            tile_size: mean height and width of the tiles of the scene, pixels.
        """
        height, width = (self.block_tiles * side for side in tile_size)
        transform = grid.transform
        sides = (
            float(np.hypot(transform.a * width, transform.b * height)),
            float(np.hypot(transform.d * width, transform.e * height)),
        )
        for division in self._divisions:
            factors = np.array(division.sides) / sides
            if division.crs == grid.crs and (abs(np.log(factors)) <= np.log(SIMILAR)).all():
                return division
        corners = np.array([(0, 0, 1, 1), (0, 1, 0, 1)]) * [[grid.width], [grid.height]]
        x, y = transform @ corners
        count = len(self._divisions)
        prefix = f"block{count + 1}" if count else "block"
        self._divisions.append(Rectangles(prefix, grid.crs, float(x.min()), float(y.max()), sides))
        return self._divisions[-1]

    def owners(self, grid: Grid) -> np.ndarray:
        """Returns the block of each pixel whose ground is in an earlier scene.

        Args:
            grid: raster with a coordinate system.

        Returns:
            int32 `(height, width)`, number of the block of each pixel; `NO_BLOCK` for ground that
            is in no earlier scene.
        """
        first = np.full(grid.size, len(self._shown), np.int32)
        for crs in dict.fromkeys(crs for crs, _, _ in self._shown):
            found = [(i, shown[1]) for i, shown in enumerate(self._shown) if shown[0] == crs]
            indices, grounds = zip(*found, strict=True)
            for number, rows, columns, inside in pixels_inside(grid, np.array(grounds), crs):
                part = first[rows, columns]
                part[inside] = np.minimum(part[inside], indices[number])
        return np.array([*(number for _, _, number in self._shown), NO_BLOCK], np.int32)[first]

    def block_of(self, tile: Grid, rectangles: Rectangles, owners: np.ndarray) -> int:
        """Returns the number of the block of a tile.

        Args:
            tile: the tile.
            rectangles: rectangles of the scene.
            owners: result of `owners` for the tile.
        """
        if (owner := owners[tile.height // 2, tile.width // 2]) != NO_BLOCK:
            return int(owner)
        name = rectangles.name_at(*tile.transform @ (tile.width / 2, tile.height / 2))
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]

    def add(self, tiles: list[tuple[Grid, int]]) -> None:
        """Adds the tiles of a scene, and the numbers of their blocks."""
        outlines: dict[int, list[shapely.Polygon]] = {}
        for tile, number in tiles:
            corners = [(0, 0), (tile.width, 0), (tile.width, tile.height), (0, tile.height)]
            outline = shapely.Polygon([tile.transform @ corner for corner in corners])
            outlines.setdefault(number, []).append(outline)
        for number, polygons in outlines.items():
            self._shown.append((tiles[0][0].crs, shapely.union_all(polygons), number))
