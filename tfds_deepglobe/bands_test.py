"""Tests of images with any number of bands."""

import io
import json
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from tfds_deepglobe.archive import open_archive, verify, with_bands, with_labels
from tfds_deepglobe.bands import find_bands, parse_bands, read_raster
from tfds_deepglobe.classes import VOID_ID
from tfds_deepglobe.deepglobe_dataset_builder import BAND_RANGES
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.prepare import prepare

RNG = np.random.default_rng(0)


def tiff(values, names=(), **options):
    """Returns the content of a GeoTIFF with the values `(height, width, bands)`."""
    height, width, count = values.shape
    options = {"driver": "GTiff", "photometric": "minisblack", **options}
    colors = options.pop("colorinterp", None)
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            height=height, width=width, count=count, dtype=values.dtype, **options
        ) as file:
            if colors:
                file.colorinterp = colors
            file.write(np.moveaxis(values, -1, 0))
            for number, name in enumerate(names, start=1):
                file.set_band_description(number, name)
        return memory.read()


def npy(values):
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def random_values(*shape, dtype=np.uint16):
    return RNG.integers(0, 10000, shape).astype(dtype)


def write_masks(folder, ids, size=(6, 8)):
    folder.mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        mask = RNG.integers(0, 2, size, np.uint8)
        Image.fromarray(mask).save(folder / f"{image_id}.png")


@pytest.fixture
def archive(tmp_path):
    """Folder with four images of three bands, float32 with NaN and nodata, and their masks."""
    folder = tmp_path / "archive"
    (folder / "images").mkdir(parents=True)
    for index in range(4):
        values = random_values(6, 8, 3).astype(np.float32)
        values[0, 0, 1] = np.nan
        values[1, 1] = -9999
        values[2, 2, 0] = -9999  # valid, because the other bands are valid
        content = tiff(values, ("B04", "B03", "nir"), nodata=-9999)
        (folder / "images" / f"{index}.tif").write_bytes(content)
    write_masks(folder / "masks", range(4))
    (folder / "class_dict.csv").write_text("name,id\nland,0\nwater,1\n")
    return folder


@pytest.mark.parametrize("text", ["", "0", "1,1", "red", "1=", "1,,2", "1=red=blue,1", "-1"])
def test_invalid_selections_raise(text):
    with pytest.raises(InputError, match="`bands` must be different numbers.*Received: bands="):
        parse_bands(text)


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (random_values(4, 5, 5), None, ((1, 2, 3, 4, 5), "uint16")),
        (random_values(4, 5, 5), "5,1", ((5, 1), "uint16")),
        (random_values(4, 5, 3), None, ((1, 2, 3), "uint16")),
        (random_values(4, 5, 1, dtype=np.uint8), None, ((1,), "uint8")),
        (random_values(4, 5, 4, dtype=np.uint8), None, ((1, 2, 3, 4), "uint8")),
        (random_values(4, 5, 3, dtype=np.uint8), "3,2,1", ((3, 2, 1), "uint8")),
        (random_values(4, 5, 2, dtype=np.int16), None, ((1, 2), "int16")),
    ],
)
def test_bands_are_found(values, text, expected):
    bands = find_bands([tiff(values)], "TIFF", text=text)
    assert (bands.numbers, bands.dtype) == expected
    raster = read_raster([tiff(values)], "TIFF", bands)
    np.testing.assert_array_equal(raster.values, values[..., np.array(bands.numbers) - 1])
    assert raster.valid.all()


def test_rgb_with_8_bits_has_no_bands():
    rgb = tiff(random_values(4, 5, 3, dtype=np.uint8), photometric="rgb")
    assert find_bands([rgb], "TIFF", text=None) is None


def test_bands_of_a_palette_raise():
    content = io.BytesIO()
    Image.new("P", (4, 4)).save(content, "PNG")
    with pytest.raises(InputError, match="contains palette indices instead of values"):
        find_bands([content.getvalue()], "PNG", text="1")


def test_a_gray_image_among_rgb_images_is_a_fault(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(4):
        image = Image.fromarray(random_values(6, 8, 3, dtype=np.uint8))
        image = image.convert("L") if index == 0 else image
        image.save(tmp_path / "images" / f"{index}.png")
    write_masks(tmp_path / "masks", range(4))
    (tmp_path / "class_dict.csv").write_text("name,id\nland,0\nwater,1\n")
    archive = with_bands(open_archive(tmp_path), None)
    assert archive.bands is None
    (fault,) = verify(archive, {}).faults
    assert fault.startswith("images/0.png: has mode L; expected RGB")


def test_names_are_descriptions_options_and_colors():
    values = random_values(4, 5, 4)
    bands = find_bands([tiff(values, ("a", "b", "b"))], "TIFF", text="3,1,4=nir")
    assert bands.names == ("b", "a", "nir")
    bands = find_bands([tiff(values, photometric="rgb")], "TIFF", text=None)
    assert bands.names[:3] == ("red", "green", "blue")
    bands = find_bands([tiff(values, ("b", "b"))], "TIFF", text=None)
    assert bands.names == ("band 1", "band 2", "band 3", "band 4")  # equal names name nothing


@pytest.mark.parametrize(
    ("shape", "count"), [((6, 8), 1), ((6, 8, 3), 3), ((3, 6, 8), 3), ((1, 6, 8), 1)]
)
def test_numpy_arrays_have_their_bands_in_the_shorter_axis(shape, count):
    values = random_values(*shape)
    bands = find_bands([npy(values)], "NPY", text=None)
    assert bands.names == tuple(f"band {i + 1}" for i in range(count))
    raster = read_raster([npy(values)], "NPY", bands)
    expected = values.reshape(6, 8, 1) if count == 1 else values
    expected = np.moveaxis(expected, 0, -1) if shape == (3, 6, 8) else expected
    np.testing.assert_array_equal(raster.values, expected)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "TIFF", "is empty"),
        (b"text", "TIFF", "is not a complete TIFF file"),
        (tiff(random_values(64, 64, 4), compress="deflate")[:-9000], "TIFF", "is not a complete"),
        (npy(random_values(4, 4, 4)), "NPY", r"has the shape \(4, 4, 4\); expected"),
        (npy(random_values(4, 4, 2))[:-1], "NPY", "is not a complete NumPy file"),
        (npy(random_values(4, 4, 2)).replace(b"}", b" "), "NPY", "is not a complete NumPy file"),
        (npy(np.full((4, 4), None)), "NPY", "Object arrays cannot be loaded"),
        (npy(np.array([["a"]])), "NPY", "has the dtype str32; expected one of uint8"),
        (npy(np.array([[None]])), "NPY", "is not a complete NumPy file"),
        (tiff(np.zeros((4, 5, 4), np.int32)), "TIFF", "has the dtype int32; expected one of"),
        (tiff(random_values(4, 5, 2)), "TIFF", r"has 2 band\(s\), but `bands` contains 4"),
    ],
)
def test_unusable_files_raise(content, kind, message):
    def read():
        bands = find_bands([content], kind, text="1,4" if "contains" in message else None)
        read_raster([content], kind, bands)

    with pytest.raises(InputError, match=message):
        read()


def test_images_with_other_bands_are_faults(archive):
    (archive / "images" / "2.tif").write_bytes(tiff(random_values(6, 8, 3)))
    report = verify(with_bands(open_archive(archive), None), {})
    assert len(report.faults) == 1
    assert (
        "images/2.tif: has 3 band(s) of uint16, but the first image has 3 band(s) of float32"
        in (report.faults[0])
    )


def test_nodata_pixels_are_void_and_their_values_are_nan(archive):
    opened, colors = with_labels(with_bands(open_archive(archive), None))
    example = opened.read(opened.pairs[0], colors)
    assert example.class_ids[0, 0] == example.class_ids[1, 1] == VOID_ID
    assert example.class_ids[2, 2] != VOID_ID
    assert np.isnan(example.image.values[0, 0]).all()
    assert verify(opened, colors).num_void == 4 * 2


def test_copies_of_images_are_faults(archive):
    (archive / "images" / "1.tif").write_bytes((archive / "images" / "0.tif").read_bytes())
    report = verify(with_bands(open_archive(archive), None), {})
    assert [fault for fault in report.faults if "the same image is also images/1.tif" in fault]


def test_prepared_values_and_ranges_are_exact(archive, tmp_path):
    builder = prepare(archive, tmp_path / "tfds", bands="3=nir2,1", num_shards=1)
    assert builder.info.metadata["bands"]["names"] == ["nir2", "B04"]
    stored = {}
    for split in builder.info.splits:
        for example in builder.as_dataset(split=split).as_numpy_iterator():
            stored[example["id"].decode()] = example["image"]
    assert len(stored) == 4
    for image_id, image in stored.items():
        with rasterio.open(archive / "images" / f"{image_id}.tif") as file:
            expected = np.moveaxis(file.read([3, 1]), 0, -1)
        expected[1, 1] = np.nan  # nodata in all bands
        np.testing.assert_array_equal(image, expected)
    ids = [e["id"].decode() for e in builder.as_dataset(split="train").as_numpy_iterator()]
    values = np.concatenate([stored[i].reshape(-1, 2) for i in ids])
    values[values == -9999] = np.nan
    ranges = json.loads((builder.data_path / BAND_RANGES).read_text())
    expected = np.stack([np.nanmin(values, 0), np.nanmax(values, 0)], 1)
    np.testing.assert_allclose(ranges["minmax"], expected)
    expected = np.nanpercentile(values, (0.5, 99.5), axis=0).T
    np.testing.assert_allclose(ranges["percentile"], expected, rtol=0.05)
    again = prepare(archive, tmp_path / "tfds", bands="1,3", num_shards=1)
    assert again.data_path != builder.data_path


BAND_FILES = {
    "suffix": ("images/{id}_{band}.tif", "images/*_{B02,B03}.tif", "masks/*.png"),
    "folders": ("{band}/{id}.tif", "{B02,B03}/*.tif", "masks/*.png"),
    "folder per image": ("images/{id}/{band}.tif", "images/*/{B02,B03}.tif", "masks/*.png"),
}


@pytest.mark.parametrize("layout", BAND_FILES)
def test_one_file_per_band(layout, tmp_path):
    path, image_glob, mask_pattern = BAND_FILES[layout]
    values = {i: random_values(6, 8, 2) for i in "abc"}
    for image_id, image in values.items():
        for index, band in enumerate(("B02", "B03")):
            file = tmp_path / path.format(id=image_id, band=band)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tiff(image[..., [index]]))
    write_masks(tmp_path / "masks", values)
    (tmp_path / "class_dict.csv").write_text("name,id\nland,0\nwater,1\n")
    names = FileNames.parse(image_glob, mask_pattern)
    opened = with_bands(open_archive(tmp_path, names), "2,1=blue")
    assert not opened.faults
    assert not opened.left_out
    assert opened.bands.names == ("B03", "blue")
    for pair in opened.pairs:
        example = opened.read(pair, {})
        np.testing.assert_array_equal(example.image.values, values[pair.id][..., ::-1])
    assert len({opened.checksum(pair.image) for pair in opened.pairs}) == 3
    (tmp_path / path.format(id="b", band="B03")).unlink()
    assert [
        fault
        for fault in open_archive(tmp_path, names).faults
        if "missing file of the band B03" in fault
    ]


def test_bands_of_different_sizes_raise():
    contents = [tiff(random_values(6, 8, 1)), tiff(random_values(3, 4, 1))]
    bands = find_bands(contents, "TIFF", text=None, part_names=("a", "b"))
    with pytest.raises(InputError, match=r"sizes \(4x3, 8x6 pixels\); resample the bands"):
        read_raster(contents, "TIFF", bands)


def test_unused_files_of_bands_are_not_read():
    contents = [tiff(random_values(*size, 1)) for size in ((6, 8), (3, 4), (6, 8))]
    bands = find_bands(contents, "TIFF", text="3,1", part_names=("a", "b", "c"))
    assert read_raster(contents, "TIFF", bands).values.shape == (6, 8, 2)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("green", "red", "nir"), None),
        (("NIR", "Green", "RED"), None),
        (("B8A", "B04", "B03"), None),
        (("green", "nir", "red"), "2,1"),  # another set of used bands
        (("red", "nir", "green"), "1=a,2=b"),
    ],
)
def test_images_with_other_names_or_another_order_raise(names, text):
    values = random_values(6, 8, 3)
    bands = find_bands([tiff(values, ("nir", "red", "green"))], "TIFF", text=text)
    named = parse_bands(text)[1] if text else ()
    with pytest.raises(InputError, match="has the bands .*, but the first image has the bands"):
        read_raster([tiff(values, names)], "TIFF", bands, named)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("NIR", "Red", "GREEN"), None),
        ((), None),
        (("2020 nir", "2020 red", "2020 green"), "1=nir,2=red,3=green"),
    ],
)
def test_images_with_the_same_bands_are_read(names, text):
    values = random_values(6, 8, 3)
    bands = find_bands([tiff(values, ("nir", "red", "green"))], "TIFF", text=text)
    named = parse_bands(text)[1] if text else ()
    raster = read_raster([tiff(values, names)], "TIFF", bands, named)
    np.testing.assert_array_equal(raster.values, values)


def test_names_that_differ_only_in_case_are_equal():
    with pytest.raises(InputError, match="different names; upper and lower .*Received: x, X"):
        parse_bands("1=x,2=X,3=y")
    bands = find_bands([tiff(random_values(4, 5, 3), ("Red", "red", "nir"))], "TIFF", text=None)
    assert bands.names == ("band 1", "band 2", "band 3")
    with pytest.raises(InputError, match="different names"):
        find_bands([npy(random_values(4, 5, 3))], "NPY", text="1=Band 2,2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("nir", "red", "green"), ("nir", "red", "green")),
        (("blue", "green", "red"), ("blue", "green", "red")),
        (("swir", "nir", "edge"), ("swir", "nir", "edge")),
        (("Red", "Green (B3)", "blue"), None),
        (("B4", "B3", "B2"), None),
    ],
)
def test_three_8_bit_bands_with_other_names_are_not_rgb(names, expected):
    content = tiff(random_values(4, 5, 3, dtype=np.uint8), names, photometric="rgb")
    bands = find_bands([content], "TIFF", text=None)
    assert (bands and bands.names) == expected


def test_near_infrared_that_is_marked_as_transparency_is_a_band():
    values = random_values(6, 8, 4)
    values[0, 0, 3] = 0
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    content = tiff(values, colorinterp=kinds)
    bands = find_bands([content], "TIFF", text=None)
    assert (bands.numbers, bands.names) == ((1, 2, 3, 4), ("red", "green", "blue", "band 4"))
    three = find_bands([content], "TIFF", text="1,2,3")
    assert read_raster([content], "TIFF", three).valid.all()


def test_pages_are_not_bands():
    pages = [Image.fromarray(random_values(6, 8)) for _ in range(3)]
    content = io.BytesIO()
    pages[0].save(content, "TIFF", save_all=True, append_images=pages[1:])
    bands = find_bands([content.getvalue()], "TIFF", text=None)
    with pytest.raises(InputError, match="has 3 pages of the same size.*gdalbuildvrt -separate"):
        read_raster([content.getvalue()], "TIFF", bands)


def write_archive(folder, contents):
    """Writes an archive with one image per element of `contents`."""
    (folder / "images").mkdir()
    for index, (content, extension) in enumerate(contents):
        (folder / "images" / f"{index}.{extension}").write_bytes(content)
    write_masks(folder / "masks", range(len(contents)))
    (folder / "class_dict.csv").write_text("name,id\nland,0\nwater,1\n")
    return open_archive(folder)


@pytest.mark.parametrize(
    ("content", "extension", "message"),
    [
        (npy(np.zeros((6, 8, 2))), "npy", "0.npy has the dtype float64; expected one of uint8"),
        (npy(np.zeros((1, 5, 6, 8), np.uint8)), "npy", r"0.npy has the shape \(1, 5, 6, 8\)"),
        (npy(np.array("text")), "npy", "0.npy has the shape"),
        (npy(random_values(6, 8, 2))[:-9], "npy", "0.npy is not a complete NumPy file"),
        (tiff(np.zeros((6, 8, 5))), "tif", "0.tif has the dtype float64; expected one of uint8"),
        (tiff(np.zeros((2, 3, 1100), np.uint16)), "tif", "0.tif has 1100 bands; at most 1000"),
    ],
)
def test_unsupported_images_are_named(content, extension, message, tmp_path):
    archive = write_archive(tmp_path, [(content, extension)] * 3)
    with pytest.raises(InputError, match=message):
        with_bands(archive, None)


def test_files_of_bands_with_different_dtypes_raise():
    contents = [tiff(random_values(4, 5, 1, dtype=dtype)) for dtype in (np.uint8, np.uint16)]
    with pytest.raises(InputError, match="bands of the dtypes uint16, uint8; expected one dtype"):
        find_bands(contents, "TIFF", text=None, part_names=("B04", "B03"))


def test_messages_about_damaged_files_contain_no_temporary_name():
    content = tiff(random_values(64, 64, 2))
    bands = find_bands([content], "TIFF", text=None)
    with pytest.raises(InputError, match="is not a complete TIFF file: band 1: IReadBlock failed"):
        read_raster([content[:-4000]], "TIFF", bands)


def test_many_bands_print_nothing(caplog):
    content = tiff(random_values(4, 5, 13))
    read_raster([content], "TIFF", find_bands([content], "TIFF", text=None))
    assert not caplog.records  # Pillow would print an error


def test_transparency_is_a_mask_and_not_a_band():
    values = random_values(6, 8, 5)
    values[..., 4] = 65535
    values[:2, :, 4] = 0
    kinds = [ColorInterp.gray, *[ColorInterp.undefined] * 3, ColorInterp.alpha]
    content = tiff(values, colorinterp=kinds)
    bands = find_bands([content], "TIFF", text=None)
    assert bands.numbers == (1, 2, 3, 4)
    raster = read_raster([content], "TIFF", bands)
    assert not raster.valid[:2].any()
    assert raster.valid[2:].all()
    assert (raster.values[:2] == 0).all()


def test_archives_of_arrays_raise():
    content = io.BytesIO()
    np.savez(content, a=np.zeros((4, 4)))
    with pytest.raises(InputError, match="is not a NumPy file with one array"):
        find_bands([content.getvalue()], "NPY", text=None)
