"""The map of a scene, in one call."""

from collections.abc import Sequence
from pathlib import Path

import keras

from lcc_tf.errors import InputError, require_extra
from lcc_tf.files import check_no_file
from lcc_tf.mapping.outputs import MIN_REGION, Outputs
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.prediction.predictors import EnsemblePredictor
from tfds_deepglobe.classes import ClassTable


def map_scene(
    model: keras.Model,
    scene: str | Path,
    output: str | Path,
    *,
    classes: ClassTable,
    tile: int = 512,
    overlap: int | None = None,
    tta: str = "none",
    extras: Sequence[str] = (),
    polygons: str | None = None,
    min_region: int = MIN_REGION,
    zones: str | Path | None = None,
    bands: Sequence[int] | None = None,
    scale: str | Sequence[float] | None = None,
    resample_to: float | None = None,
    overwrite: bool = False,
    verbose: int = 1,
) -> dict[str, Path]:
    """Maps the land cover of a scene of any size.

    The class map and a table of areas are always written. Rasters have the scene's grid,
    georeference and nodata pixels. Memory grows with the scene's width and not with its height.

    Args:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`.
        scene: GeoTIFF, TIFF, JPEG or PNG file.
        output: folder for the files; it is created if it does not exist.
        classes: names and colors of the model's output channels, in their order.
        tile: side of the tiles, pixels; best the size that the model was trained on. It is rounded
            to a multiple of the model's stride.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tta: test-time augmentation: "none", "flip" (the mean over 4 flips) or "d4" (the mean over
            all 8 symmetries of the square).
        extras: optional files: "probabilities" of each class, "confidence" (the largest
            probability), "overlay" (a picture of the map over the image).
        polygons: format of the map's regions as polygons, "gpkg" or "geojson"; None to write no
            polygons.
        min_region: regions of fewer pixels join their largest neighboring region before they become
            polygons.
        zones: file of polygons (GeoPackage, GeoJSON, shapefile, ...) in which areas are computed
            too.
        bands: numbers of the red, green and blue band, from 1; None for the three bands of an image
            that has three.
        scale: values that become 0 and 255: "minmax", "percentile" (2 and 98 % of each band) or two
            numbers; None for unchanged values of 8-bit images, and "percentile" for all others.
        resample_to: pixel size at which the scene is read and mapped, meters; None for the scene's
            pixel size.
        overwrite: replaces files that exist.
        verbose: 1 to show a progress bar with the remaining time, 0 to show nothing.

    Returns:
        The written files by kind: "classes", "areas", "polygons", "zones", and the extras.

    Raises:
        InputError: an invalid argument, a scene that cannot be read, or a file that exists.
        InstallationError: the extra "maps" is not installed.
        OSError: the disk is full, or the folder cannot be written.

    Example:
        >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> files = lcc_tf.map_scene(
        ...     model, "scene.tif", "maps", classes=lcc_tf.DEEPGLOBE_CLASSES, tile=256
        ... )
        >>> print(files["classes"], files["areas"])
        maps/scene_classes.tif maps/scene_areas.csv
    """
    require_extra("maps")
    from lcc_tf.mapping.area_statistics import Zones
    from lcc_tf.mapping.map_images import map_images

    scene = Path(scene)
    reading = SceneReading(bands, scale, resample_to)
    outputs = Outputs(
        Path(output),
        extras=extras,
        polygons=polygons,
        min_region=min_region,
        zones=Zones(Path(zones)) if zones is not None else None,
    )
    check_no_file(outputs.folder)
    existing = [file for file in outputs.files(scene).values() if file.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} already exists. Replace the map with `overwrite=True`, or choose "
            "another `output`."
        )
    predictor = EnsemblePredictor.from_model(model, classes, tile=tile, tta=tta)
    map_images([scene], predictor, outputs, reading=reading, overlap=overlap, verbose=verbose)
    return outputs.files(scene)
