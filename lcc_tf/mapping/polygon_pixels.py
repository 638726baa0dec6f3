"""Pixels of a raster whose centers are inside polygons."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyproj
import rasterio
import shapely
from rasterio.features import rasterize

from lcc_tf.mapping.grid import Grid

LARGEST, SMALLEST = 2048, 64  # side of a block of pixels
ACCURACY = 1e-2  # largest error of the position of a pixel, pixels
SAMPLES = 5  # rows and columns of points where the linear and the exact position are compared
# In a block with at most UNKNOWN pixels per side, every STRIDE-th row and column is tested first.
# If none of these pixels can be transformed, the block is skipped.
UNKNOWN, STRIDE = 256, 8
# A pixel center exactly on the common edge of two polygons must belong to only one of them.
# Therefore all centers are moved to the right and down by these fractions of a pixel. If the two
# fractions were equal, a center on a diagonal edge would stay on the edge.
TIE = 1e-6, 0.6e-6
# A polygon at 181 degrees east also contains pixels at 179 degrees west, which is one full turn
# less. These numbers of full turns are tried.
TURNS = (-2, -1, 0, 1, 2)
STEP = 30  # degrees

# Converts columns and rows of a raster to coordinates.
Locate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def pixels_inside(
    grid: Grid, polygons: Sequence[shapely.Geometry | None], crs: rasterio.CRS
) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
    """Finds the pixels whose centers are inside polygons.

    The pixels are transformed to the coordinate system of the polygons, because there the edges of
    the polygons are straight lines. Pixels that cannot be transformed are in no polygon.

    The raster is divided into blocks. In most blocks, this transformation is almost linear: a
    linear transform has errors of at most 0.01 pixels. If even a small block is not linear, for
    example at a pole, the exact position of each pixel is computed.

    Args:
        grid: raster with a coordinate system.
        polygons: valid polygons; None or an empty geometry for no pixels.
        crs: coordinate system of the polygons. 181 degrees east and 179 degrees west are the same
            meridian, also in cylindrical projections such as web Mercator.

    Yields:
        Four values for each polygon and each part of the raster near this polygon. The parts of a
        polygon do not overlap.

        - number of the polygon, counted from 0.
        - rows of the part.
        - columns of the part.
        - mask, bool `(height, width)`, True for pixels inside the polygon.
    """
    shapely.prepare(polygons)
    tree = shapely.STRtree(polygons)
    locate = _locator(grid, crs)
    turn = _full_turn(crs)
    shifts = [count * turn for count in TURNS] if turn else [0.0]

    def near(bounds: np.ndarray) -> dict[int, list[float]]:
        """Returns the polygons near a rectangle.

        Returns:
            Dictionary. Key: number of a polygon. Value: shifts of x that move the rectangle to the
            polygon.
        """
        left, bottom, right, top = bounds
        found = defaultdict(list)
        for shift in shifts:
            for number in tree.query(shapely.box(left + shift, bottom, right + shift, top)):
                found[int(number)].append(shift)
        return found

    def in_block(rows: slice, columns: slice) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
        side = max(_sizes(rows, columns))
        transform = _transform_of(locate, rows, columns)
        if transform is not None:
            corners = np.array(
                [(x, y) for x in (columns.start, columns.stop) for y in (rows.start, rows.stop)]
            )
            bounds = _bounds(np.array(transform @ corners.T))
            for number, found in near(bounds).items():
                moved = [rasterio.Affine.translation(shift, 0) @ transform for shift in found]
                part = _window(polygons[number], moved, rows, columns)
                yield number, *part, np.any([_burn(polygons[number], t, *part) for t in moved], 0)
        elif side > SMALLEST:
            if _can_contain(locate, rows, columns, turn, near):
                for part in _split(rows, columns, max(SMALLEST, side // 2)):
                    yield from in_block(*part)
        else:
            x, y = np.array(locate(*np.meshgrid(_range(columns) + 0.5, _range(rows) + 0.5)))
            is_known = np.isfinite(x) & np.isfinite(y)
            if not is_known.any():
                return
            for number, found in near(_bounds(np.array([x[is_known], y[is_known]]))).items():
                left, bottom, right, top = polygons[number].bounds
                inside = np.zeros(x.shape, bool)
                for shift in found:
                    candidates = (x + shift >= left) & (x + shift <= right) & (bottom <= y)
                    candidates &= y <= top
                    inside[candidates] |= shapely.contains_xy(
                        polygons[number], x[candidates] + shift, y[candidates]
                    )
                yield number, rows, columns, inside

    for block in _split(slice(0, grid.height), slice(0, grid.width), LARGEST):
        yield from in_block(*block)


def extent_in(grid: Grid, crs: rasterio.CRS) -> np.ndarray:
    """Returns left, bottom, right and top of a raster in another coordinate system.

    The values are approximate, because they are computed from some points. They are NaN if no
    point can be transformed.
    """
    rows, columns = slice(0, grid.height), slice(0, grid.width)
    points = np.array(_locator(grid, crs)(*_samples(rows, columns)))
    is_known = np.isfinite(points).all(axis=0)
    if is_known.all() and (turn := _full_turn(crs)):
        points[0] = _without_jumps(points[0], turn)
    return _bounds(points[:, is_known]) if is_known.any() else np.full(4, np.nan)


def _locator(grid: Grid, crs: rasterio.CRS) -> Locate:
    """Returns the conversion from columns and rows of a raster to coordinates of `crs`."""
    transform = grid.transform @ rasterio.Affine.translation(*TIE)
    if grid.crs == crs:
        return lambda columns, rows: transform @ np.array([columns, rows], float)
    transformer = pyproj.Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True)
    return lambda columns, rows: transformer.transform(
        *(transform @ np.array([columns, rows], float))
    )


def _transform_of(locate: Locate, rows: slice, columns: slice) -> rasterio.Affine | None:
    """Fits a linear transform from columns and rows to coordinates; None if it is not accurate."""
    column, row = _samples(rows, columns)
    points = np.array(locate(column, row))
    if not np.isfinite(points).all():
        return None
    center = np.array([column.mean(), row.mean()])
    design = np.column_stack([column - center[0], row - center[1], np.ones(column.size)])
    middle = points.mean(axis=1)
    (a, b, c), (d, e, f) = np.linalg.lstsq(design, points.T - middle, rcond=None)[0].T
    transform = rasterio.Affine(a, b, c + middle[0], d, e, f + middle[1])
    transform @= rasterio.Affine.translation(*-center)
    if transform.is_degenerate:
        return None
    errors = np.array(~transform @ points) - [column, row]
    return transform if np.abs(errors).max() <= ACCURACY else None


def _full_turn(crs: rasterio.CRS) -> float:
    """Returns how much the x coordinate changes in one full turn around the globe.

    In longitudes and cylindrical projections, meridians are parallel lines at equal distances. In
    all other coordinate systems, the result is 0.
    """
    system = pyproj.CRS.from_wkt(crs.to_wkt())
    if system.is_geographic:
        return 2 * np.pi / system.axis_info[0].unit_conversion_factor
    longitudes = np.arange(-180, 180, STEP) + 0.5
    x = np.array([pyproj.Proj(system)(longitudes, np.full(len(longitudes), y))[0] for y in (0, 40)])
    x[~np.isfinite(x)] = np.nan  # outside the area of the projection
    steps = np.diff(x)
    step = float(np.median(steps))
    # At the border of the projection, x jumps back once.
    is_parallel = np.allclose(x[0], x[1]) and np.isclose(steps[0], step).sum() >= len(steps[0]) - 1
    return step * 360 / STEP if is_parallel else 0.0


def _can_contain(
    locate: Locate,
    rows: slice,
    columns: slice,
    turn: float,
    near: Callable[[np.ndarray], dict[int, list[float]]],
) -> bool:
    """Returns False if a block is far from all polygons.

    The decision uses the positions of some points in the block, and a wide margin.
    """
    x, y = np.array(locate(*_samples(rows, columns)))
    is_known = np.isfinite(x) & np.isfinite(y)
    if not is_known.any() and max(_sizes(rows, columns)) <= UNKNOWN:
        some = np.array(locate(*np.meshgrid(_range(columns)[::STRIDE], _range(rows)[::STRIDE])))
        return bool(np.isfinite(some).all(axis=0).any())
    if not is_known.all():
        return True
    if turn:
        x = _without_jumps(x, turn)
    bounds = _bounds(np.array([x, y]))
    size = bounds[2:] - bounds[:2]
    return bool(near(np.concatenate([bounds[:2] - size, bounds[2:] + size])))


def _without_jumps(x: np.ndarray, turn: float) -> np.ndarray:
    """Adds full turns around the globe to x coordinates, so that neighbors have similar values.

    Args:
        x: x coordinates of the points that `_samples` returns.
        turn: result of `_full_turn`.
    """
    x = x.reshape(SAMPLES, SAMPLES)
    x = np.unwrap(np.unwrap(x, axis=0, period=turn), axis=1, period=turn)
    return (x - turn * np.round(x.mean() / turn)).ravel()


def _bounds(points: np.ndarray) -> np.ndarray:
    """Returns left, bottom, right and top of points, `(2, ...)`."""
    points = points.reshape(2, -1)
    return np.concatenate([points.min(axis=1), points.max(axis=1)])


def _samples(rows: slice, columns: slice) -> np.ndarray:
    """Returns columns and rows of a coarse grid of points in a block, float `(2, n)`."""
    axes = (np.linspace(part.start, part.stop, SAMPLES) for part in (columns, rows))
    return np.array(np.meshgrid(*axes)).reshape(2, -1)


def _window(
    polygon: shapely.Geometry, transforms: Sequence[rasterio.Affine], rows: slice, columns: slice
) -> tuple[slice, slice]:
    """Returns the rows and columns of a block that are inside the bounds of a polygon."""
    corners = shapely.get_coordinates(shapely.box(*polygon.bounds)).T
    positions = np.hstack([np.array(~transform @ corners) for transform in transforms])
    return tuple(
        slice(*(int(v) for v in np.clip([low, high], block.start, block.stop)))
        for low, high, block in zip(
            np.floor(positions.min(axis=1))[::-1],
            np.ceil(positions.max(axis=1))[::-1],
            (rows, columns),
            strict=True,
        )
    )


def _burn(
    polygon: shapely.Geometry, transform: rasterio.Affine, rows: slice, columns: slice
) -> np.ndarray:
    """Returns True for the pixels of a window whose centers are inside a polygon."""
    size = _sizes(rows, columns)
    if not all(size):
        return np.zeros(size, bool)
    # Clip the polygon: the pixel numbers of very distant points are too large for GDAL's integers.
    margin = rasterio.Affine.translation(columns.start - 1, rows.start - 1)
    scale = rasterio.Affine.scale(size[1] + 2, size[0] + 2)
    x, y = transform @ margin @ scale @ np.array([[0, 0, 1, 1], [0, 1, 0, 1]], float)
    box = x.min(), y.min(), x.max(), y.max()
    try:
        near = shapely.clip_by_rect(polygon, *box)
    except shapely.errors.GEOSException:  # a corner that almost touches the rectangle
        near = shapely.intersection(polygon, shapely.box(*box))
    if near.is_empty:
        return np.zeros(size, bool)
    return (
        rasterize(
            [near],
            out_shape=size,
            transform=transform @ rasterio.Affine.translation(columns.start, rows.start),
            dtype="uint8",
        )
        > 0
    )


def _split(rows: slice, columns: slice, side: int) -> list[tuple[slice, slice]]:
    """Divides a block into blocks of at most `side` rows and columns."""
    return [
        (
            slice(top, min(top + side, rows.stop)),
            slice(left, min(left + side, columns.stop)),
        )
        for top in range(rows.start, rows.stop, side)
        for left in range(columns.start, columns.stop, side)
    ]


def _sizes(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start


def _range(part: slice) -> np.ndarray:
    return np.arange(part.start, part.stop)
