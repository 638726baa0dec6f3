"""Public function `map_scene`, which maps the land cover of an image file."""

from collections.abc import Sequence
from pathlib import Path

import keras

from lcc_tf.arguments import check_arguments
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

    A class map and a table of areas are always written. The rasters have the same size,
    georeference and nodata pixels as the scene. The required memory grows with the width of the
    scene, but not with its height.

    Args:
        model: model with the input float32 `(batch, height, width, channels)` and the output
            `(batch, height, width, num_classes)`, logits or probabilities. The channels are RGB in
            [0, 255], or the `bands` of the model.
        scene: GeoTIFF, TIFF, JPEG or PNG file.
        output: folder for the written files; it is created if it does not exist.
        classes: names and colors of the classes, in the order of the output channels of the model.
        tile: side of the tiles, pixels. The best value is the side of the images that the model was
            trained on. The value is rounded to a multiple of the stride of the model.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tta: test-time augmentation: "none", "flip" (mean of 4 flipped images) or "d4" (mean of 8
            rotated and flipped images).
        extras: optional rasters and pictures:

            - "probabilities": the probability of each class.
            - "confidence": the largest probability.
            - "overlay": a picture of the map over the image.
        polygons: format of the file that contains the regions of the map as polygons, "gpkg" or
            "geojson"; None to write no polygons.
        min_region: minimum number of pixels of a polygon. Smaller regions are merged into their
            largest neighboring region before the polygons are written.
        zones: file with polygons (GeoPackage, GeoJSON, shapefile, ...), such as parcels. A table
            with the area of each class in each polygon is written. None for no table.
        bands: numbers of the bands to read; the first band is 1:

            - For an RGB model: the red, green and blue band. None to use the bands that the file
              marks as red, green and blue, or the bands of an image with three unmarked bands.
            - For a model with other bands: the bands of the model. None to find these bands by
              their names, or by their numbers in the training images.
        scale: range of values that is scaled to [0, 255]:

            - "minmax": minimum and maximum of each band.
            - "percentile": the 2nd and 98th percentile of each band.
            - Two numbers: the range of all bands.
            - None: no scaling of 8-bit images, "percentile" for other images.

            For a model with other bands, `scale` must be None, because the model scales its input.
        resample_to: pixel size at which the scene is read and mapped, meters; None for the pixel
            size of the file.
        overwrite: True to replace existing files.
        verbose: 1 to show a progress bar with the remaining time, 0 to show nothing.

    Returns:
        Dictionary. Key: kind of a file. Value: path. The kinds are "classes", "areas", "polygons",
        "zones", and the names in `extras`.

    Raises:
        InputError: an argument is invalid, the scene cannot be read, or a file already exists.
        InstallationError: the extra "maps" is not installed.
        OSError: the disk is full, or the folder is not writable.

    Example:
        >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> files = lcc_tf.map_scene(
        ...     model, "scene.tif", "maps", classes=lcc_tf.DEEPGLOBE_CLASSES, tile=256
        ... )
        >>> print(files["classes"], files["areas"])
        maps/scene_classes.tif maps/scene_areas.csv
    """
    check_arguments(map_scene, locals(), unchecked=("model", "classes", "verbose"))
    require_extra("maps")
    from lcc_tf.mapping.input_images import check_inputs_remain
    from lcc_tf.mapping.map_images import map_images
    from lcc_tf.mapping.zones import Zones

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
    check_inputs_remain([scene], outputs)
    existing = [file for file in outputs.files(scene).values() if file.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} already exists. Replace it with `overwrite=True`, or choose another "
            "`output`."
        )
    predictor = EnsemblePredictor.from_model(model, classes, tile=tile, tta=tta)
    map_images([scene], predictor, outputs, reading=reading, overlap=overlap, verbose=verbose)
    return outputs.files(scene)
