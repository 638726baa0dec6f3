"""Names and colours of classes in files beside a map, where GIS programs look for them."""

from pathlib import Path
from xml.etree import ElementTree

from tfds_deepglobe.classes import ClassTable


def write_categories(file: Path, classes: ClassTable) -> None:
    """Adds the classes' names to what GDAL keeps beside a raster; GeoTIFF has no place for them.

    Args:
        file: the raster's `.aux.xml`, there or not.
        classes: of the raster's first band.
    """
    root = ElementTree.parse(file).getroot() if file.exists() else ElementTree.Element("PAMDataset")
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in classes.names:
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.ElementTree(root).write(file)


def write_qgis_style(file: Path, classes: ClassTable) -> None:
    """Writes the style that QGIS shows a raster in by itself.

    Without one its legend lists all 256 entries of the raster's colour table.

    Args:
        file: to write; the raster's name with the suffix `.qml`.
        classes: of the raster's first band.
    """
    root = ElementTree.Element("qgis")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for class_id, (name, color) in enumerate(zip(classes.names, classes.palette, strict=True)):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(class_id),
            label=name,
            color="#{:02x}{:02x}{:02x}".format(*color),
            alpha="255",
        )
    ElementTree.ElementTree(root).write(file)
