"""Class names and colors of maps, for GIS programs."""

from pathlib import Path
from xml.etree import ElementTree

from lcc_tf.files import write_atomically
from tfds_deepglobe.classes import ClassTable


def write_categories(file: Path, classes: ClassTable) -> None:
    """Adds class names to the `.aux.xml` file of a raster, because a GeoTIFF cannot store them.

    GDAL reads this file together with the raster.

    Args:
        file: `.aux.xml` file of the raster. If it exists, its other content is not changed.
        classes: class names and colors of the first band of the raster.
    """
    root = ElementTree.parse(file).getroot() if file.exists() else ElementTree.Element("PAMDataset")
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in classes.names:
        ElementTree.SubElement(names, "Category").text = name
    write_atomically(file, ElementTree.tostring(root))


def write_raster_style(file: Path, classes: ClassTable) -> None:
    """Writes the style file that QGIS applies to a raster.

    Without the style, the legend in QGIS lists all 256 entries of the color table.

    Args:
        file: file to write. It has the path of the raster, but the suffix `.qml`.
        classes: class names and colors of the first band of the raster.
    """
    root = ElementTree.Element("qgis")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for class_id, (name, color) in enumerate(
        zip(classes.names, classes.displayed.palette, strict=True)
    ):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(class_id),
            label=name,
            color="#{:02x}{:02x}{:02x}".format(*color),
            alpha="255",
        )
    write_atomically(file, ElementTree.tostring(root))


def write_polygon_style(file: Path, classes: ClassTable) -> None:
    """Writes the style file that QGIS applies to polygons. The style has one color per class.

    Args:
        file: file to write. It has the path of the polygon file, but the suffix `.qml`.
        classes: class names and colors. The field `class` of each polygon contains a class name.
    """
    root = ElementTree.Element("qgis")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class", symbollevels="0"
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for class_id, (name, color) in enumerate(
        zip(classes.names, classes.displayed.palette, strict=True)
    ):
        symbol_name = str(class_id)
        ElementTree.SubElement(
            categories, "category", value=name, label=name, symbol=symbol_name, render="true"
        )
        symbol = ElementTree.SubElement(symbols, "symbol", type="fill", name=symbol_name, alpha="1")
        layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
        properties = {"color": ",".join(map(str, (*color, 255))), "outline_style": "no"}
        for key, value in properties.items():
            ElementTree.SubElement(layer, "prop", k=key, v=value)
    write_atomically(file, ElementTree.tostring(root))
