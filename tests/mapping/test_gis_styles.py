from xml.etree import ElementTree

from lcc_tf.mapping.gis_styles import write_categories, write_polygon_style, write_raster_style
from tfds_deepglobe.classes import ClassTable

CLASSES = ClassTable(("grass & moss", "eau <1 m"), ((0, 128, 255), (255, 10, 3)))


def test_class_names_are_added_to_an_existing_file(tmp_path):
    file = tmp_path / "a.tif.aux.xml"
    file.write_text(
        "<PAMDataset><Metadata/><PAMRasterBand band='1'><Description>class</Description>"
        "</PAMRasterBand></PAMDataset>"
    )
    write_categories(file, CLASSES)
    root = ElementTree.parse(file).getroot()
    assert [element.tag for element in root] == ["Metadata", "PAMRasterBand"]
    assert root.findtext("PAMRasterBand/Description") == "class"
    names = [element.text for element in root.iterfind("PAMRasterBand/CategoryNames/Category")]
    assert names == list(CLASSES.names)


def test_raster_style_lists_only_the_classes(tmp_path):
    write_raster_style(tmp_path / "a.qml", CLASSES)
    renderer = ElementTree.parse(tmp_path / "a.qml").find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = [dict(entry.items()) for entry in renderer.find("colorPalette")]
    assert entries == [
        {"value": "0", "label": "grass & moss", "color": "#0080ff", "alpha": "255"},
        {"value": "1", "label": "eau <1 m", "color": "#ff0a03", "alpha": "255"},
    ]


def test_polygon_style_has_one_color_per_class(tmp_path):
    write_polygon_style(tmp_path / "a.qml", CLASSES)
    renderer = ElementTree.parse(tmp_path / "a.qml").find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class")
    color_of = {
        symbol.get("name"): symbol.find("layer/prop[@k='color']").get("v")
        for symbol in renderer.find("symbols")
    }
    categories = renderer.findall("categories/category")
    assert {each.get("value"): color_of[each.get("symbol")] for each in categories} == {
        "grass & moss": "0,128,255,255",
        "eau <1 m": "255,10,3,255",
    }
