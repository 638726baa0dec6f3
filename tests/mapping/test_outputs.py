from pathlib import Path

import pytest

from lcc_tf.errors import InputError
from lcc_tf.mapping.outputs import EXTRAS, Outputs, find_images, plan


def test_files_of_a_map():
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


def test_files_folders_and_patterns_of_images(tmp_path):
    for name in ("b.tif", "a.JPG", "notes.txt", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.tiff").touch()

    def names(*inputs):
        paths = [str(tmp_path / name) for name in inputs]
        return [path.name for path in find_images(paths, tmp_path / "maps")]

    assert names("") == ["a.JPG", "b.tif", "c.png"]
    assert names("c.png", "*.tif", "c.png") == ["c.png", "b.tif"]
    assert names("**/*.tiff") == ["d.tiff"]
    (tmp_path / "deep" / "deeper").mkdir()
    (tmp_path / "deep" / "deeper" / "e.tiff").touch()
    assert names("**/*.tiff") == ["d.tiff", "e.tiff"]
    with pytest.raises(InputError, match=r"no image at .*gone.tif'"):
        names("gone.tif")
    with pytest.raises(InputError, match="would become input images"):
        find_images([str(tmp_path)], tmp_path / "deep" / "..")
    (tmp_path / "deep" / "b.png").touch()
    with pytest.raises(InputError, match=r"b.tif and .*b.png would get maps of the same name"):
        names("", "deep")


def test_existing_maps_raise_without_resume_or_overwrite(tmp_path):
    images = [tmp_path / "a.tif", tmp_path / "b.tif"]
    outputs = Outputs(tmp_path, ["confidence"])
    for file in outputs.files(images[0]).values():
        file.touch()
    assert plan(images, outputs, resume=True, overwrite=False) == images[1:]
    assert plan(images, Outputs(tmp_path, ["overlay"]), resume=True, overwrite=False) == images
    assert plan(images, outputs, resume=False, overwrite=True) == images
    with pytest.raises(InputError, match="a_classes.tif already exists.*`resume=True`"):
        plan(images, Outputs(tmp_path), resume=False, overwrite=False)
    assert plan(images[1:], Outputs(tmp_path), resume=False, overwrite=False) == images[1:]


def test_folder_that_is_a_file_raises(tmp_path):
    (tmp_path / "maps").touch()
    with pytest.raises(InputError, match="maps is a file, not a folder. Choose another folder"):
        plan([Path("a.tif")], Outputs(tmp_path / "maps"), resume=True, overwrite=True)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"extras": ["confidence", "areas"]}, "`extras` must be a list of probabilities.*'areas'"),
        ({"extras": "overlay"}, "`extras` must be a list.*'overlay'"),
        ({"polygons": "shp"}, "Unknown `polygons`.*'shp'.*'gpkg'"),
        ({"min_region": 0}, "`min_region` must be 1.*min_region=0"),
    ],
)
def test_invalid_outputs_raise(changed, match):
    with pytest.raises(InputError, match=match):
        Outputs(Path("maps"), **changed)
