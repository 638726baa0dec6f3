"""Procedural scenes: synthetic satellite images, drawn by this program, with exact masks.

Each class has its own texture. Light, season and soil differ between scenes. Therefore, different
classes can have the same colors, and a model must learn texture and shape.

The constants for lengths are in pixels, for a scene with 256x256 pixels. A larger scene shows a
larger area. If `side` is the side of the scene, the size of textures is proportional to
`side ** 0.3`, and the size of regions and rivers is proportional to `side ** 0.6`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from scipy.spatial import cKDTree

from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

MIN_SIZE = 64  # a smaller scene would usually show only one region

_URBAN, _AGRICULTURE, _RANGE, _FOREST, _WATER, _BARREN, _UNKNOWN = map(
    DEEPGLOBE_CLASSES.class_id,
    ("urban", "agriculture", "rangeland", "forest", "water", "barren", "unknown"),
)

# Relative frequency of each class. Here, water means lakes. Rivers are added later.
_LAND_WEIGHTS = {
    _URBAN: 0.18,
    _AGRICULTURE: 0.20,
    _RANGE: 0.18,
    _FOREST: 0.17,
    _WATER: 0.12,
    _BARREN: 0.15,
}

# Surface colors, RGB in [0, 1], before the light of the scene is applied.
_NAVY = (0.12, 0.19, 0.26)
_TEAL = (0.22, 0.35, 0.34)
_PINE = (0.17, 0.23, 0.15)
_GREEN = (0.27, 0.36, 0.19)
_OLIVE = (0.39, 0.39, 0.24)
_STRAW = (0.60, 0.54, 0.37)
_SILT = (0.50, 0.45, 0.35)
_SOIL = (0.45, 0.36, 0.27)
_RED_SOIL = (0.52, 0.35, 0.26)
_GRAY = (0.50, 0.49, 0.46)
_PALE = (0.80, 0.77, 0.71)
_WHITE = (0.93, 0.91, 0.87)
_BLUE_ROOF = (0.38, 0.48, 0.60)

# Possible colors of each surface. If a color is repeated, its probability is higher. Different
# surfaces share colors intentionally: muddy water looks like plowed soil, a green lake looks like a
# meadow, and pale rock looks like a cloud.
_CROPS = (_PINE, _PINE, _GREEN, _GREEN, _GREEN, _STRAW, _STRAW, _SOIL, _RED_SOIL)
_GRASS = (_GREEN, _OLIVE, _OLIVE, _OLIVE, _STRAW, _STRAW, _SILT)
_TREES = (_PINE, _PINE, _PINE, _PINE, _GREEN, _OLIVE, _SOIL)
_LAKES = (_NAVY, _NAVY, _TEAL, _TEAL, _PINE, _GREEN, _OLIVE, _SILT, _SOIL)
_BARE = (_STRAW, _SOIL, _RED_SOIL, _RED_SOIL, _GRAY, _PALE, _PALE)
_YARDS = (_GREEN, _OLIVE, _SILT, _SOIL, _GRAY, _GRAY)
_ROOFS = (_GRAY, _GRAY, _PALE, _WHITE, _SOIL, _RED_SOIL, _BLUE_ROOF)


class _Frame:
    """Pixel grid, scale, sun direction and random numbers of one scene."""

    def __init__(self, seed: int, index: int, size: int) -> None:
        self.rng = np.random.default_rng((seed, index))
        self.size = size
        self.scale = (size / 256) ** 0.3
        self.y, self.x = np.mgrid[:size, :size].astype(np.float32)
        azimuth = self.rng.uniform(0, 2 * np.pi)
        # Direction from the ground to the sun, as (x, y). Shadows point in the opposite direction.
        self.sun = np.array([np.cos(azimuth), np.sin(azimuth)], np.float32)
        self.fields = _lay_parcels(self, length=52, width=30, warp=6)
        self.blocks = _lay_parcels(self, length=38, width=26, warp=4)

    def noise(self, wavelength: float, octaves: int = 1) -> np.ndarray:
        """Returns smooth noise with a mean of 0 and a standard deviation of about 0.8.

        Args:
            wavelength: wavelength of the coarsest octave.
            octaves: number of noises to add. Each noise has half the wavelength and half the
                strength of the noise before.

        Returns:
            float32 `(size, size)`.
        """
        total = np.zeros((self.size, self.size), np.float32)
        for octave in range(octaves):
            step = max(wavelength * self.scale / 2**octave, 1.0)
            span = self.size / step
            grid = self.rng.standard_normal((int(span) + 4,) * 2).astype(np.float32)
            left, top = self.rng.uniform(1, 2, 2)
            box = (left, top, left + span, top + span)
            smooth = Image.fromarray(grid).resize((self.size,) * 2, Image.Resampling.BICUBIC, box)
            total += 0.5**octave * np.asarray(smooth)
        return total

    def scatter(
        self, x: np.ndarray, y: np.ndarray, spacing: float
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Scatters random points and finds the nearest point of each pixel.

        The points are the nodes of a grid, with random displacements.

        Args:
            x: columns of the pixels, float32 `(pixels,)`.
            y: rows of the pixels, float32 `(pixels,)`.
            spacing: mean distance between the points.

        Returns:
            A tuple of three items:

            - index of the nearest point for each pixel, int `(pixels,)`,
            - vector from the nearest point to the pixel in units of the spacing, float32
              `(pixels, 2)`,
            - number of points.
        """
        spacing *= self.scale
        side = int(self.size / spacing) + 4
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1) - 2.0
        points = (grid + self.rng.random(grid.shape)).reshape(-1, 2)
        position = np.stack([x, y], axis=-1) / spacing
        _, nearest = cKDTree(points).query(position)
        return nearest, (position - points[nearest]).astype(np.float32), len(points)

    def blend(self, colors: tuple, amount: np.ndarray) -> np.ndarray:
        """Selects two colors at random and mixes them.

        Args:
            colors: possible colors, RGB in [0, 1].
            amount: mixing ratio, float32 `(pixels,)`, clipped to [-1, 1]. -1 means only the first
                color, and 1 means only the second color.

        Returns:
            Mixed colors, float32 `(pixels, 3)`, RGB in [0, 1].
        """
        first, second = self.rng.choice(np.array(colors, np.float32), 2)
        weight = np.clip(0.5 + 0.5 * amount, 0, 1)[..., None]
        return first + (second - first) * weight


@dataclass
class _Parcels:
    """Division of the scene into parcels, which are fields or the blocks of a town.

    The parcels are rectangles in parallel rows. The pattern is rotated and warped.

    Attributes:
        ids: id of the parcel of each pixel, int `(size, size)`.
        count: number of parcels.
        u: distance from the center of the parcel, in the direction of the row, float32
            `(size, size)`, pixels.
        v: distance from the center of the parcel, perpendicular to the row, float32 `(size, size)`,
            pixels.
        edge: distance to the border of the parcel, float32 `(size, size)`, pixels.
        axis: direction of the rows in the image, as (x, y).
    """

    ids: np.ndarray
    count: int
    u: np.ndarray
    v: np.ndarray
    edge: np.ndarray
    axis: np.ndarray


def _lay_parcels(frame: _Frame, length: float, width: float, warp: float) -> _Parcels:
    """Creates parcels in parallel rows, with random variations.

    Args:
        frame: frame of the scene.
        length: mean length of a parcel.
        width: mean width of a row.
        warp: strength of the warp.
    """
    rng = frame.rng
    reach = 2 * frame.size  # distance from the center to the first row, far outside the scene
    tilt = rng.uniform(0, np.pi)
    axis = np.array([np.cos(tilt), np.sin(tilt)], np.float32)
    x = frame.x - frame.size / 2 + warp * frame.scale * frame.noise(150)
    y = frame.y - frame.size / 2 + warp * frame.scale * frame.noise(150)
    u, v = axis[0] * x + axis[1] * y, axis[0] * y - axis[1] * x

    width, length = width * frame.scale, length * frame.scale
    rows = int(2 * reach / (0.7 * width)) + 1
    row_edges = np.cumsum(rng.uniform(0.7, 1.3, rows) * width).astype(np.float32) - reach
    row = np.searchsorted(row_edges, v)
    row_lengths = (rng.uniform(0.7, 1.5, rows) * length).astype(np.float32)
    row_starts = (rng.random(rows) * length - reach).astype(np.float32)
    along = (u - row_starts[row]) / row_lengths[row]
    column = np.floor(along).astype(int)
    columns = int(column.max()) + 1

    from_start = (along - column) * row_lengths[row]
    from_side = v - row_edges[row - 1]
    row_width = row_edges[row] - row_edges[row - 1]
    return _Parcels(
        ids=row * columns + column,
        count=rows * columns,
        u=from_start - row_lengths[row] / 2,
        v=from_side - row_width / 2,
        edge=np.minimum(
            np.minimum(from_start, row_lengths[row] - from_start),
            np.minimum(from_side, row_width - from_side),
        ),
        axis=axis,
    )


def _lay_classes(frame: _Frame) -> np.ndarray:
    """Divides the scene into regions of different classes, without clouds.

    Returns:
        Class ids, uint8 `(size, size)`.
    """
    rng = frame.rng
    # In a larger scene, the regions are larger, and there are more regions.
    spacing = 92 * frame.scale
    x = frame.x + 18 * frame.scale**2 * frame.noise(80 * frame.scale, octaves=3)
    y = frame.y + 18 * frame.scale**2 * frame.noise(80 * frame.scale, octaves=3)
    region, _, regions = frame.scatter(x.ravel(), y.ravel(), spacing)
    variety = int(rng.integers(3, 6) * frame.scale)
    present = rng.choice(
        list(_LAND_WEIGHTS),
        size=np.clip(variety, 2, len(_LAND_WEIGHTS)),
        replace=False,
        p=list(_LAND_WEIGHTS.values()),
    )
    classes = rng.choice(present, regions).astype(np.uint8)[region].reshape(x.shape)

    # Give all pixels of a field or a town block the same class, so that borders are straight.
    num_classes = DEEPGLOBE_CLASSES.num_classes
    for class_id, parcels in ((_AGRICULTURE, frame.fields), (_URBAN, frame.blocks)):
        votes = np.bincount(
            (parcels.ids * num_classes + classes).ravel(), minlength=parcels.count * num_classes
        ).reshape(parcels.count, num_classes)
        majority = votes.argmax(axis=1).astype(np.uint8)[parcels.ids]
        concerned = (classes == class_id) | (majority == class_id)
        classes = np.where(concerned, majority, classes)

    if rng.random() < 0.3:
        width = rng.uniform(9, 20) * frame.scale**2
        classes[_stroke(frame, meander=22) < width / 2] = _WATER
    return classes


def _stroke(frame: _Frame, meander: float) -> np.ndarray:
    """Returns the distance of each pixel to a winding line across the scene.

    Args:
        frame: frame of the scene.
        meander: strength of the bends.

    Returns:
        float32 `(size, size)`, pixels.
    """
    rng = frame.rng
    angle = rng.uniform(0, 2 * np.pi)
    x, y = frame.x - frame.size / 2, frame.y - frame.size / 2
    bend = meander * frame.scale**2 * frame.noise(110 * frame.scale, octaves=2)
    across = np.cos(angle) * x + np.sin(angle) * y + bend
    across -= rng.uniform(-0.35, 0.35) * frame.size
    # To first order, the distance is the value of `across` divided by its slope.
    slope_y, slope_x = np.gradient(across)
    return np.abs(across) / np.hypot(slope_x, slope_y).clip(0.3)


def _paint_forest(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints groups of trees in different colors. Crowns are brighter on the side of the sun."""
    crown, offset, crowns = frame.scatter(frame.x[at], frame.y[at], spacing=6.5)
    clump = frame.noise(22, octaves=2)[at]
    tone = frame.rng.uniform(0.8, 1.25, crowns).astype(np.float32)[crown]
    shade = 1.2 - 1.1 * (offset**2).sum(axis=1) + 0.7 * offset @ frame.sun
    return frame.blend(_TREES, clump) * (tone * shade.clip(0.35) + 0.1 * clump)[:, None]


def _paint_range(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints grass with irregular spots, and scattered shrubs with shadows."""
    mottle = frame.noise(13, octaves=3)[at]
    ground = frame.blend(_GRASS, frame.noise(60)[at]) * (1 + 0.13 * mottle)[:, None]
    shrub, offset, shrubs = frame.scatter(frame.x[at], frame.y[at], spacing=11.5)
    radius = frame.rng.uniform(0.06, 0.26, shrubs).astype(np.float32)[shrub]
    in_shadow = np.hypot(*(offset + 0.7 * radius[:, None] * frame.sun).T) < radius
    ground[in_shadow] *= 0.55
    leaves = np.hypot(*offset.T) < radius
    ground[leaves] = np.array(_PINE, np.float32) * frame.rng.uniform(0.6, 1.1)
    return ground


def _paint_barren(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints bare ground: hills with erosion channels, illuminated from the side."""
    relief = frame.noise(26, octaves=4)
    slope_y, slope_x = np.gradient(relief * frame.scale)
    lit = -(slope_x * frame.sun[0] + slope_y * frame.sun[1])[at]
    cut = frame.noise(40)[at].clip(0)
    gully = cut * np.exp(-((frame.noise(30, octaves=3)[at] / 0.12) ** 2))
    tone = (1 + 1.6 * lit - 0.4 * gully).clip(0.4)
    return frame.blend(_BARE, 1.2 * frame.noise(60)[at]) * tone[:, None]


def _paint_water(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints a smooth surface whose color changes slowly."""
    tone = 1 + 0.015 * frame.noise(6)[at]
    return frame.blend(_LAKES, 0.5 * frame.noise(110)[at]) * tone[:, None]


def _paint_fields(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints fields with rows of plants, and tracks between the fields.

    Each field has one kind of plants.
    """
    rng, fields = frame.rng, frame.fields
    field, u, v, edge = fields.ids[at], fields.u[at], fields.v[at], fields.edge[at]

    def per_field(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, fields.count).astype(np.float32)[field]

    along_u = rng.random(fields.count)[field] < 0.4
    period = per_field(5.5, 9) * frame.scale
    rows = np.sin(2 * np.pi * np.where(along_u, u, v) / period + per_field(0, 2 * np.pi))
    tone = per_field(0.85, 1.15) + per_field(0.15, 0.26) * rows + 0.04 * frame.noise(4)[at]
    crops = rng.choice(np.array(_CROPS, np.float32), (2, fields.count))
    color = (0.7 * crops[0] + 0.3 * crops[1])[field] * tone[:, None]
    border = edge < 1.1 * frame.scale
    color[border] = rng.choice(np.array((_PINE, _SILT, _SOIL), np.float32))
    return color


def _paint_town(frame: _Frame, at: np.ndarray) -> np.ndarray:
    """Paints town blocks between streets. Most squares (`plot`) of a block have one roof."""
    rng, blocks, scale = frame.rng, frame.blocks, frame.scale
    u, v = blocks.u[at], blocks.v[at]
    pitch = rng.uniform(9, 11.5) * scale
    plot_u, plot_v = np.floor(u / pitch), np.floor(v / pitch)
    from_u, from_v = u - (plot_u + 0.5) * pitch, v - (plot_v + 0.5) * pitch
    plots = 4096  # number of different plots; the same plot can occur in several blocks
    deal = np.array([1, 61, 677]) @ np.stack([blocks.ids[at], plot_u, plot_v])
    plot = deal.astype(int) % plots

    def per_plot(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, plots).astype(np.float32)[plot]

    half_u, half_v = per_plot(2.2, 4.4) * scale, per_plot(2.2, 4.4) * scale
    built = rng.random(plots)[plot] < 0.85
    roof = built & (np.abs(from_u) < half_u) & (np.abs(from_v) < half_v)
    sun_u = blocks.axis @ frame.sun
    sun_v = blocks.axis[0] * frame.sun[1] - blocks.axis[1] * frame.sun[0]
    height = per_plot(1.2, 2.2) * scale
    shadow = built & (np.abs(from_u + height * sun_u) < half_u)
    shadow &= np.abs(from_v + height * sun_v) < half_v

    color = frame.blend(_YARDS, frame.noise(9, octaves=2)[at])
    color = color * (1 + 0.1 * frame.noise(4)[at])[:, None]
    color[frame.noise(8)[at] > 1.0] = _PINE  # garden trees
    color[shadow] *= 0.45
    ridge_light = 1 + 0.15 * np.sign(from_u * sun_u)
    roofs = rng.choice(np.array(_ROOFS, np.float32), plots)[plot]
    color[roof] = (roofs * (per_plot(0.8, 1.2) * ridge_light)[:, None])[roof]
    street = blocks.edge[at] < 1.7 * scale
    color[street] = rng.choice(np.array((_GRAY, _SILT, _SOIL), np.float32))
    return color


_PAINTERS: dict[int, Callable[[_Frame, np.ndarray], np.ndarray]] = {
    _URBAN: _paint_town,
    _AGRICULTURE: _paint_fields,
    _RANGE: _paint_range,
    _FOREST: _paint_forest,
    _WATER: _paint_water,
    _BARREN: _paint_barren,
}


def _paint_land(frame: _Frame, classes: np.ndarray) -> np.ndarray:
    """Paints each class, and then shores, a road and the light on hills.

    Returns:
        Reflectance in RGB, float32 `(size, size, 3)`.
    """
    land = np.empty((*classes.shape, 3), np.float32)
    for class_id, paint in _PAINTERS.items():
        at = classes == class_id
        if at.any():
            land[at] = paint(frame, at)

    dry = classes != _WATER
    near_water = gaussian_filter((~dry).astype(np.float32), 2 * frame.scale)
    shore = frame.rng.choice(np.array((_PINE, _STRAW, _SILT), np.float32))
    strength = np.where(dry, 1.4 * near_water, 0.5 * (1 - near_water)).clip(0, 1)[..., None]
    land += (shore - land) * strength

    # A road does not change the mask: its pixels have the class of the land around the road.
    if frame.rng.random() < 0.5:
        road = dry & (_stroke(frame, meander=8) < 1.6 * frame.scale)
        land[road] = frame.rng.choice(np.array((_GRAY, _STRAW, _SOIL), np.float32))

    slope_y, slope_x = np.gradient(frame.noise(90, octaves=2) * 90 * frame.scale)
    hills = 1 - 0.05 * (slope_x * frame.sun[0] + slope_y * frame.sun[1])
    land[dry] *= hills[dry][:, None]
    return land


def _add_clouds(frame: _Frame, land: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the land with clouds and shadows, and a mask that is True for clouds."""
    rng = frame.rng
    billows = frame.noise(85, octaves=4)
    edge = np.quantile(billows, 1 - rng.uniform(0.07, 0.2))
    opacity = (0.5 + 2.8 * (billows - edge)).clip(0, 1)
    drop = -frame.sun[::-1] * rng.uniform(14, 26) * frame.scale
    shadow = shift(opacity, drop, order=1, mode="nearest")
    white = rng.uniform(0.82, 0.97) + 0.05 * frame.noise(16, octaves=2)
    land = land * (1 - 0.5 * shadow)[..., None]
    land += (white[..., None] - land) * (0.97 * opacity)[..., None]
    return land, opacity > 0.5


def _expose(frame: _Frame, land: np.ndarray) -> np.ndarray:
    """Converts reflectance to the pixels of an image, with light, haze and sensor noise.

    Returns:
        Image in RGB, uint8 `(size, size, 3)`.
    """
    rng = frame.rng
    gray = land.mean(axis=-1, keepdims=True)
    land = gray + (land - gray) * rng.uniform(0.75, 1.25)
    land = land * rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    haze, air = rng.uniform(0, 0.2), np.array((0.60, 0.65, 0.70), np.float32)
    land = gaussian_filter(land + (air - land) * haze, (0.5, 0.5, 0))
    land += 0.012 * rng.standard_normal(land.shape, np.float32)
    return (255 * land.clip(0, 1)).round().astype(np.uint8)


def render_scene(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Renders one scene. Equal arguments return equal pixels.

    Args:
        seed: random seed of all scenes, 0 or more.
        index: number of the scene, 0 or more.
        size: side of the scene in pixels, 64 or more.

    Returns:
        Image, uint8 `(size, size, 3)`, RGB in [0, 255]; mask, uint8 `(size, size)`, class ids of
        `DEEPGLOBE_CLASSES`.

    Example:
        >>> image, mask = render_scene(0, 0, 64)
        >>> image.shape, mask.shape
        ((64, 64, 3), (64, 64))
    """
    frame = _Frame(seed, index, size)
    mask = _lay_classes(frame)
    land = _paint_land(frame, mask)
    if frame.rng.random() < 0.4:
        land, hidden = _add_clouds(frame, land)
        mask[hidden] = _UNKNOWN
    return _expose(frame, land), mask
