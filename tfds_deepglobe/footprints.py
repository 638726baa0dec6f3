"""Ground areas of georeferenced images, and groups of images that are near each other."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from tfds_deepglobe.archive import Archive
from tfds_deepglobe.errors import InputError, listed
from tfds_deepglobe.pairing import Pair
from tfds_deepglobe.parallel import ordered_map
from tfds_deepglobe.sources import Folder
from tfds_deepglobe.splits import SPLITS

# With more images, neighbors are searched only if the user asks for groups by distance.
MAX_IMAGES = 10_000


def distance_groups(archive: Archive, meters: float | None) -> dict[str, str] | None:
    """Groups georeferenced images whose ground areas are near each other.

    If A is near B, and B is near C, all three are in one group.

    Args:
        archive: archive with images as GeoTIFF.
        meters: largest distance of neighbors in a group, meters. Distances of less than a pixel
            are rounding errors, and count as 0. None for images that touch or overlap.

    Returns:
        Dictionary. Key: id of an image. Value: its group. The name of a group is the first id in
        the group. If `meters` is None, the result is None for images that are not georeferenced,
        for a zip, and for more than `MAX_IMAGES` images.

    Raises:
        InputError: `meters` is set, but an image is not georeferenced or cannot be read.
    """
    if meters is None and (
        archive.names.images.format != "TIFF"
        or len(archive.pairs) > MAX_IMAGES
        or not isinstance(archive.source, Folder)  # a zip must be read completely
    ):
        return None
    try:
        found = _corners(archive)
    except (InputError, ImportError) as error:
        if meters is None:
            return None
        raise InputError(f"`group_by={meters:g}m` needs georeferenced images: {error}") from error
    roots = _connected(len(archive.pairs), _near(*found, meters or 0))
    ids = [pair.id for pair in archive.pairs]
    return {image_id: ids[root] for image_id, root in zip(ids, roots, strict=True)}


def describe_neighbors(archive: Archive) -> list[str]:
    """Returns a warning if images of an archive touch each other on the ground.

    Only the headers of the images are read.

    Args:
        archive: archive with a random split without groups.

    Returns:
        A list with the warning. An empty list if no images touch, or if their positions are
        unknown.
    """
    groups = distance_groups(archive, None) or {}
    members: dict[str, list[str]] = {}
    for image_id, group in groups.items():
        members.setdefault(group, []).append(image_id)
    touching = [ids for ids in members.values() if len(ids) > 1]
    if not touching:
        return []
    remedy = "To keep them together, use `group_by=0m`"
    if len(members) < len(SPLITS):
        remedy = "To choose the splits yourself, use `split_files`"
    text = (
        f"warning: {sum(map(len, touching))} images touch or overlap other images on the ground, "
        f"such as {listed(touching[0][:2])}, and the random split separates them. Neighbors of "
        f"training images can then be in the test split, and the scores are too high. {remedy}; "
        "to separate them anyway, use `group_by=none`."
    )
    return [text]


def _connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Finds groups of connected numbers in [0, count).

    Args:
        count: number of numbers.
        pairs: pairs of connected numbers.

    Returns:
        For each number, the smallest number in its group.
    """
    parents = list(range(count))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return [root(number) for number in range(count)]


def _corners(archive: Archive) -> tuple[np.ndarray, np.ndarray]:
    """Reads the corners of all images.

    Returns:
        Longitudes and latitudes of the corners, degrees, float64 `(num_images, 4, 2)`; and the
        widths of the images, pixels, int64 `(num_images,)`.
    """
    import pyproj
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    def read(pair: Pair) -> tuple[str, np.ndarray, int]:
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                if isinstance(archive.source, Folder):
                    image = stack.enter_context(rasterio.open(archive.path / pair.image.name))
                else:
                    content = archive.source.read(pair.image.name)
                    memory = stack.enter_context(rasterio.MemoryFile(content))
                    image = stack.enter_context(memory.open())
                if image.crs is None or image.transform.is_identity:
                    raise InputError(f"{pair.image.name} has no coordinate system.")
                columns, rows = (
                    np.array([0, image.width, image.width, 0]),
                    np.array([0, 0, image.height, image.height]),
                )
                x, y = image.transform @ (columns, rows)
                return image.crs.to_wkt(), np.stack([x, y], axis=-1), image.width
        except RasterioError as error:
            raise InputError(f"{pair.image.name} cannot be read: {error}.") from error

    found = list(ordered_map(read, archive.pairs, "locating"))
    try:
        to_degrees = {
            crs: pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
            for crs in {crs for crs, _, _ in found}
        }
        corners = [
            np.stack(to_degrees[crs].transform(*points.T), axis=-1) for crs, points, _ in found
        ]
    except pyproj.exceptions.ProjError as error:  # such as a local coordinate system
        raise InputError(f"The positions of the images are unknown: {error}.") from error
    for pair, points in zip(archive.pairs, corners, strict=True):
        if not np.isfinite(points).all():
            raise InputError(f"{pair.image.name} is outside the area of its coordinate system.")
    return np.stack(corners), np.array([width for _, _, width in found])


def _near(corners: np.ndarray, widths: np.ndarray, meters: float) -> Iterator[tuple[int, int]]:
    """Finds pairs of images that are near each other.

    Distances are measured in UTM coordinates. They are equal to distances on the ground, within
    0.1 %. For two images in neighboring zones, the coordinates of one zone are used.

    Args:
        corners: longitudes and latitudes, as returned by `_corners`.
        widths: widths of the images, pixels.
        meters: largest distance, meters. Distances of less than a pixel count as 0.

    Yields:
        Pairs of image numbers. Each image is also paired with itself.
    """
    import pyproj
    import shapely

    zones = (corners[:, 0, 0] // 6).astype(int) % 60
    for zone in np.unique(zones).tolist():
        numbers = np.flatnonzero(np.isin((zones - zone) % 60, (59, 0, 1)))
        # Use the northern projection in both hemispheres. In the south, y is negative.
        utm = f"EPSG:{32601 + (zone + 30) % 60}"
        transformer = pyproj.Transformer.from_crs("EPSG:4326", utm, always_xy=True)
        x, y = transformer.transform(*np.moveaxis(corners[numbers], -1, 0))
        points = np.stack([x, y], axis=-1)
        pixel = (np.linalg.norm(points[:, 1] - points[:, 0], axis=-1) / widths[numbers]).max()
        areas = shapely.convex_hull(shapely.multipoints(points))
        found = shapely.STRtree(areas).query(
            areas, predicate="dwithin", distance=max(float(pixel), meters)
        )
        yield from numbers[found].T.tolist()
