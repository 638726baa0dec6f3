from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from lcc_tf.errors import InputError
from lcc_tf.mapping.input_images import find_images, images_to_map, orientation_line
from lcc_tf.mapping.outputs import Outputs


def test_images_are_found_from_files_folders_and_patterns(tmp_path):
    for name in ("b.tif", "a.JPG", "notes.txt", "c.png", "._b.tif", ".d.png"):
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
    with pytest.raises(InputError, match=r"gone.tif', which matches no image"):
        names("gone.tif")
    with pytest.raises(InputError, match="`output` must not be a folder in `input`"):
        find_images([str(tmp_path)], tmp_path / "deep" / "..")
    (tmp_path / "deep" / "b.png").touch()
    with pytest.raises(InputError, match=r"b.tif and .*b.png. Their maps would have the same name"):
        names("", "deep")


@pytest.mark.parametrize("suffix", [".vrt", ".jp2", ".JP2", ".img", ".webp", ".bmp"])
def test_folder_of_other_rasters_contains_images(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    assert find_images([str(tmp_path)], tmp_path / "maps") == [tmp_path / f"a{suffix}"]


def test_images_with_orientation_tags_are_described_in_one_line(tmp_path):
    images = [tmp_path / name for name in ("a.jpg", "b.png", "c.tif", "d.jpg", "missing.tif")]
    exif = Image.Exif()
    exif[274] = 6
    for image in images[:3]:
        Image.new("RGB", (4, 4)).save(image, exif=exif)
    Image.new("RGB", (4, 4)).save(images[3])
    assert orientation_line(images) == (
        f"3 of 5 images have an orientation tag, such as {images[0]} (6). The tags are not "
        "applied: the maps fit the pixels as they are stored."
    )
    assert orientation_line(images[3:]) == ""


def test_existing_maps_raise_if_resume_and_overwrite_are_false(tmp_path):
    images = [tmp_path / "a.tif", tmp_path / "b.tif"]
    outputs = Outputs(tmp_path, ["confidence"])
    for file in outputs.files(images[0]).values():
        file.touch()
    assert images_to_map(images, outputs, resume=True, overwrite=False) == images[1:]
    assert (
        images_to_map(images, Outputs(tmp_path, ["overlay"]), resume=True, overwrite=False)
        == images
    )
    assert images_to_map(images, outputs, resume=False, overwrite=True) == images
    with pytest.raises(InputError, match="a_classes.tif already exists.*`resume=True`"):
        images_to_map(images, Outputs(tmp_path), resume=False, overwrite=False)
    assert images_to_map(images[1:], Outputs(tmp_path), resume=False, overwrite=False) == images[1:]


@pytest.mark.parametrize("name", ["a_classes.qml", "a_polygons.qml", "a_classes.tif.aux.xml"])
def test_existing_files_beside_a_new_map_raise(tmp_path, name):
    (tmp_path / name).touch()
    arguments = [Path("a.tif")], Outputs(tmp_path, polygons="gpkg")
    with pytest.raises(InputError, match=f"{name} already exists"):
        images_to_map(*arguments, resume=False, overwrite=False)
    assert images_to_map(*arguments, resume=False, overwrite=True)


@pytest.mark.parametrize("inputs", [["a.tif", "a_overlay.png"], ["a.tif"]])
def test_inputs_in_the_output_folder_that_would_be_replaced_raise(tmp_path, inputs):
    zones = Mock(path=tmp_path / "a_polygons.gpkg") if len(inputs) == 1 else None
    outputs = Outputs(tmp_path / ".." / tmp_path.name, zones=zones)
    images = [tmp_path / name for name in inputs]
    with pytest.raises(InputError, match="`output` must not contain the input .*a_(ov|pol).*a.tif"):
        images_to_map(images, outputs, resume=False, overwrite=True)
    other = Outputs(tmp_path / "maps", zones=zones)
    assert images_to_map(images, other, resume=False, overwrite=True) == images


def test_output_folder_that_is_a_file_raises(tmp_path):
    (tmp_path / "maps").touch()
    with pytest.raises(
        InputError, match="maps is a file, not a folder. Choose a folder as `output`"
    ):
        images_to_map([Path("a.tif")], Outputs(tmp_path / "maps"), resume=True, overwrite=True)


def test_folder_with_the_name_of_a_map_raises(tmp_path):
    (tmp_path / "a_classes.tif").mkdir()
    with pytest.raises(InputError, match="a_classes.tif is a folder.*Choose another `output`"):
        images_to_map([Path("a.tif")], Outputs(tmp_path), resume=False, overwrite=True)
