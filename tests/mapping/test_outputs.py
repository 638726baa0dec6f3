from pathlib import Path

import pytest

from lcc_tf.errors import InputError
from lcc_tf.mapping.outputs import EXTRAS, Outputs


def test_names_of_the_output_files_of_an_image():
    def names(image, **options):
        return [path.name for path in Outputs(Path("maps"), **options).files(image).values()]

    assert names(Path("in/a.tif")) == ["a_classes.tif", "a_areas.csv"]
    assert names(Path("in/a.JPG"), extras=EXTRAS, polygons="geojson", zones=object()) == [
        *("a_classes.png", "a_probabilities.tif", "a_confidence.png", "a_disagreement.png"),
        *("a_overlay.png", "a_polygons.geojson", "a_zones.csv", "a_areas.csv"),
    ]
    assert names(Path("in/b.TIFF"), extras=EXTRAS[:3], polygons="gpkg") == [
        *("b_classes.tif", "b_probabilities.tif", "b_confidence.tif", "b_disagreement.tif"),
        *("b_polygons.gpkg", "b_areas.csv"),
    ]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (
            {"extras": ["confidence", "areas"]},
            "`extras` must be.*'overlay'.*Received:.*'areas'",
        ),
        ({"extras": "overlay"}, "`extras` must be a list.*Received: 'overlay'"),
        ({"polygons": "shp"}, "`polygons` must be one of.*'gpkg'.*Received: 'shp'"),
        ({"min_region": 0}, "`min_region` must be 1.*min_region=0"),
    ],
)
def test_invalid_outputs_raise(changed, match):
    with pytest.raises(InputError, match=match):
        Outputs(Path("maps"), **changed)
