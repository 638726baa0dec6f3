import os
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from lcc_tf.bands import Bands
from lcc_tf.data.decoding import decode_image
from lcc_tf.errors import InputError
from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.scene import open_scene
from lcc_tf.mapping.scene_reading import SceneReading
from tests.mapping.scenes import HALF_METER, noise, write_scene


def whole(scene):
    """Reads all pixels of a scene."""
    return scene.read(slice(0, scene.grid.height), slice(0, scene.grid.width))


def valid_pixels(scene):
    return ~np.isnan(whole(scene)).any(axis=-1)


def test_parts_of_a_geotiff_are_read(tmp_path):
    image = noise(40, 60)
    with open_scene(write_scene(tmp_path / "a.tif", image)) as scene:
        assert scene.grid == Grid(40, 60, rasterio.CRS.from_epsg(32633), HALF_METER)
        assert (scene.has_nodata, scene.stretch) == (False, None)
        part = scene.read(slice(5, 17), slice(20, 60))
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, image[5:17, 20:60])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_jpeg_and_png_are_decoded_as_in_training(tmp_path, suffix, recwarn):
    """The colors of the JPEG image are subsampled, and decoders upsample them in different ways."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(40, 60)).save(path)
    with open_scene(path) as scene:
        assert scene.grid.crs is None
        expected = decode_image(path.read_bytes(), "png" if suffix == ".png" else "jpeg")
        np.testing.assert_array_equal(whole(scene), expected)
    assert not recwarn.list


def test_nodata_pixels_are_nan(tmp_path):
    image = noise(30, 20)
    image[:10] = 0
    image[20, 5, 0] = 0  # this pixel is not nodata, because its other bands are not 0
    with open_scene(write_scene(tmp_path / "a.tif", image, nodata=0)) as scene:
        assert (scene.nodata, scene.has_nodata) == (0, True)
        assert np.isnan(scene.read(slice(0, 10), slice(3, 20))).all()
        np.testing.assert_array_equal(scene.read(slice(10, 30), slice(0, 20)), image[10:])


def test_transparent_pixels_are_nodata(tmp_path):
    image = noise(30, 20, 4)
    image[..., 3] = 255
    image[:, :7, 3] = 0
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with open_scene(write_scene(tmp_path / "a.tif", image, colorinterp=colors)) as scene:
        assert np.isnan(whole(scene)[:, :7]).all()
        np.testing.assert_array_equal(whole(scene)[:, 7:], image[:, 7:, :3])


def test_near_infrared_marked_as_transparency_is_not_a_mask(tmp_path):
    image = noise(30, 20, 4)
    image[:20, :, 3] = 0
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_scene(tmp_path / "a.tif", image, colorinterp=colors)
    for bands in ((1, 2, 3), (4, 1, 2)):
        with open_scene(path, SceneReading(bands=bands)) as scene:
            assert not scene.has_nodata
            np.testing.assert_array_equal(whole(scene), image[..., np.array(bands) - 1])


def test_nan_is_nodata(tmp_path):
    image = noise(30, 20).astype(np.float32)
    image[3, 4, 1] = np.nan
    with open_scene(write_scene(tmp_path / "a.tif", image), SceneReading(scale=(0, 255))) as scene:
        image[3, 4] = np.nan  # the scene returns NaN in all bands of this pixel
        np.testing.assert_allclose(whole(scene), image, rtol=1e-5)


def test_chosen_bands_are_read_and_missing_bands_raise(tmp_path):
    image = noise(8, 9, 4)
    path = write_scene(tmp_path / "a.tif", image, photometric="MINISBLACK")
    with open_scene(path, SceneReading(bands=(3, 2, 1))) as scene:
        np.testing.assert_array_equal(whole(scene), image[..., 2::-1])
    with (
        pytest.raises(InputError, match=r"4 band\(s\) \(gray.*`bands`, such as 3,2,1"),
        open_scene(path),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"`bands` must be in \[1, 4\].*Received: bands=5,2,1"),
        open_scene(path, SceneReading(bands=(5, 2, 1))),
    ):
        pass
    Image.fromarray(image[..., :3]).quantize(16).save(tmp_path / "palette.png")
    with (
        pytest.raises(InputError, match="palette indices.*-expand rgb .*palette.png rgb.tif"),
        open_scene(tmp_path / "palette.png"),
    ):
        pass
    gray = write_scene(tmp_path / "b.tif", image[..., :1])
    with (
        pytest.raises(InputError, match=r"1 band\(s\) \(gray\).*`bands`, such as 1,1,1"),
        open_scene(gray),
    ):
        pass
    with open_scene(gray, SceneReading(bands=(1, 1, 1))) as scene:
        np.testing.assert_array_equal(whole(scene), image[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [
        ("minmax", 100, 10100),
        ("percentile", 300, 9900),
        ((1100, 5100), 1100, 5100),
        (None, 300, 9900),
    ],
)
def test_all_parts_of_a_scene_have_the_same_scale(tmp_path, scale, low, high):
    values = np.linspace(100, 10100, 100 * 101).reshape(100, 101).round().astype(np.uint16)
    image = np.stack([values, values, values], axis=-1)
    with open_scene(write_scene(tmp_path / "a.tif", image), SceneReading(scale=scale)) as scene:
        np.testing.assert_allclose(scene.stretch, [[low] * 3, [high] * 3], atol=1)
        for rows in (slice(0, 10), slice(40, 50)):
            expected = ((image[rows].astype(float) - low) / (high - low) * 255).clip(0, 255)
            np.testing.assert_allclose(scene.read(rows, slice(0, 101)), expected, atol=0.1)


def test_scale_is_computed_without_nodata_pixels(tmp_path):
    image = noise(50, 50, 3, np.uint16, 1000) + 1000
    image[:20] = 65535
    with open_scene(
        write_scene(tmp_path / "a.tif", image, nodata=65535), SceneReading(scale="minmax")
    ) as scene:
        assert scene.stretch.max() < 2001


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_scene_of_nodata_pixels_is_read(tmp_path, dtype):
    path = write_scene(tmp_path / "a.tif", np.zeros((5, 5, 3), dtype), nodata=0)
    with open_scene(path) as scene:
        assert np.isnan(whole(scene)).all()


def test_percentiles_of_valid_pixels_outside_the_overview_raise(tmp_path):
    image = np.zeros((2, 9000, 3), np.uint16)
    image[0, 1] = 7
    path = write_scene(tmp_path / "a.tif", image, nodata=0)
    with pytest.raises(InputError, match="too few valid pixels.*such as 0,3000"), open_scene(path):
        pass
    with open_scene(path, SceneReading(scale=(0, 14))) as scene:
        np.testing.assert_allclose(whole(scene)[0, 1], 127.5)


@pytest.mark.parametrize(
    ("dtype", "offset"), [(np.uint32, 4_000_000_000), (np.float64, 1e15), (np.int32, -(2**31))]
)
def test_small_differences_of_large_values_are_kept(tmp_path, dtype, offset, recwarn):
    image = np.arange(101, dtype=dtype).repeat(3).reshape(1, 101, 3) + dtype(offset)
    path = write_scene(tmp_path / "a.tif", image)
    with open_scene(path, SceneReading(scale="minmax")) as scene:
        np.testing.assert_allclose(whole(scene)[0, :, 0], np.arange(101) * 2.55, atol=1e-4)
    assert not recwarn.list


@pytest.mark.parametrize("missing", [-3.4028234663852886e38, np.inf, 1e35])
def test_very_large_values_are_nodata(tmp_path, missing, recwarn):
    image = noise(20, 10).astype(np.float32)
    image[:10] = missing
    with open_scene(write_scene(tmp_path / "a.tif", image), SceneReading(scale="minmax")) as scene:
        assert np.isnan(whole(scene)[:10]).all()
        assert scene.stretch.max() < 256
    assert not recwarn.list


@pytest.mark.parametrize(
    ("value", "fraction", "warns"),
    [(-9999, 0.5, True), (0, 0.5, False), (-9999, 0.003, False), (60000, 0.1, True)],
)
def test_undeclared_nodata_value_of_many_pixels_is_reported(tmp_path, value, fraction, warns):
    image = noise(100, 20, 3, np.float32, 2000) + 1
    image[: round(100 * fraction)] = value
    if fraction < 0.01:
        image[0, :6] = value
    with open_scene(write_scene(tmp_path / "a.tif", image)) as scene:
        assert any(f"the value {value} in all bands" in note for note in scene.notes) == warns


def test_nodata_value_and_transparency_together_print_no_warning(tmp_path, recwarn):
    image = noise(8, 9, 4)
    image[..., 3] = 255
    image[:3] = 0
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_scene(tmp_path / "a.tif", image, colorinterp=colors, nodata=0)
    with open_scene(path) as scene:
        assert valid_pixels(scene).sum() == 5 * 9
    assert not recwarn.list


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_bands_with_few_bits_are_scaled_from_their_range(tmp_path, bits):
    image = noise(8, 9, 1) % 2**bits
    path = write_scene(tmp_path / "a.tif", image, nbits=bits)
    with open_scene(path, SceneReading(bands=(1, 1, 1))) as scene:
        expected = np.repeat(image * (255 / (2**bits - 1)), 3, axis=-1)
        np.testing.assert_allclose(whole(scene), expected, rtol=1e-5)


def test_bands_in_the_order_blue_green_red_are_read_as_red_green_blue(tmp_path):
    image = noise(8, 9)
    colors = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    path = write_scene(tmp_path / "a.tif", image, colorinterp=colors)
    with open_scene(path) as scene:
        assert scene.notes == [
            "bands 3,2,1 are red, green and blue, according to their color interpretation"
        ]
        np.testing.assert_array_equal(whole(scene), image[..., ::-1])


def test_resampled_scene_has_the_requested_pixel_size(tmp_path):
    steps = np.arange(20, dtype=np.uint8) * 12
    smooth = np.ascontiguousarray(np.broadcast_to(steps[None, :, None], (40, 20, 3)))
    path = write_scene(tmp_path / "a.tif", smooth)
    image = noise(40, 60)
    with open_scene(write_scene(tmp_path / "b.tif", image), SceneReading(resample_to=1)) as scene:
        assert scene.grid.size == (20, 30)
        assert scene.grid.transform == from_origin(500000, 5200000, 1, 1)
        means = image.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(whole(scene), means, atol=1)
    with open_scene(path, SceneReading(resample_to=0.25)) as scene:
        assert scene.grid.size == (80, 40)
        np.testing.assert_allclose(scene.grid.transform @ (40, 80), (500010, 5199980))
        # Each old pixel is divided into new pixels. Their centers are a quarter of an old pixel to
        # the left and to the right of the old center. Old neighbors differ by 12.
        row = whole(scene)[10, 2:-2, 0]
        np.testing.assert_allclose(row.reshape(-1, 2), steps[1:-1, None] + [-3.0, 3.0])
    wide = noise(4, 6000)
    with open_scene(
        write_scene(tmp_path / "c.tif", wide), SceneReading(resample_to=0.5001)
    ) as scene:
        # The pixel sizes 0.5 m and 0.5001 m are considered equal. The scene is not resampled.
        np.testing.assert_array_equal(whole(scene), wide)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    with (
        pytest.raises(InputError, match="a coordinate system.*a.png.*Remove `resample_to`"),
        open_scene(tmp_path / "a.png", SceneReading(resample_to=1)),
    ):
        pass


@pytest.mark.parametrize("name", ["a?b.tif", "a&b.tif", "a=b,1.tif", "vrt:a.tif", "a#b.tif"])
def test_resampled_scene_with_a_special_name(tmp_path, name):
    path = write_scene(tmp_path / name, noise(40, 60))
    if "?" in name:
        with (
            pytest.raises(InputError, match="must not contain '\\?' if `resample_to` is set"),
            open_scene(path, SceneReading(resample_to=1)),
        ):
            pass
    else:
        with open_scene(path, SceneReading(resample_to=1)) as scene:
            assert whole(scene).shape == (20, 30, 3)
    with open_scene(path) as scene:
        assert whole(scene).shape == (40, 60, 3)


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("meters", [1, 0.25])
def test_masked_pixels_of_a_resampled_scene_are_nodata(tmp_path, internal, meters):
    mask = np.ones((40, 60), bool)
    mask[:20] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = write_scene(tmp_path / "a.tif", noise(40, 60, 5), mask=mask)
    with open_scene(path, SceneReading(bands=(5, 1, 1), resample_to=meters)) as scene:
        rows = scene.grid.height // 2
        assert scene.has_nodata
        assert not valid_pixels(scene)[:rows].any()
        assert valid_pixels(scene)[rows:].all()


@pytest.mark.parametrize("meters", [1, 0.25])
def test_transparency_band_of_a_resampled_scene_is_nodata_only_if_it_is_a_mask(tmp_path, meters):
    image = noise(40, 60, 4)
    image[:5, :, 3] = 0
    rgb = write_scene(tmp_path / "rgb.tif", image[..., :3])
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    infrared = write_scene(tmp_path / "infrared.tif", image, colorinterp=colors)
    image[:20, :, 3], image[20:, :, 3] = 0, 255
    masked = write_scene(tmp_path / "masked.tif", image, colorinterp=colors)
    with (
        open_scene(rgb, SceneReading(resample_to=meters)) as scene,
        open_scene(infrared, SceneReading(bands=(1, 2, 3), resample_to=meters)) as with_infrared,
        open_scene(masked, SceneReading(resample_to=meters)) as with_mask,
    ):
        np.testing.assert_array_equal(whole(with_infrared), whole(scene))
        assert not with_infrared.has_nodata
        rows = scene.grid.height // 2
        assert np.isnan(whole(with_mask)[:rows]).all()
        # Means of pixels next to nodata pixels are computed without the nodata pixels.
        np.testing.assert_allclose(whole(with_mask)[rows + 1 :], whole(scene)[rows + 1 :], atol=1)
        assert valid_pixels(with_mask)[rows:].all()
    with (
        pytest.raises(InputError, match="Received: band 4 of.*-colorinterp_4 undefined"),
        open_scene(infrared, SceneReading(bands=(4, 1, 2), resample_to=meters)),
    ):
        pass


def test_thumbnail_has_the_requested_size_and_nodata(tmp_path):
    image = noise(100, 50)
    image[:50] = 0
    with open_scene(write_scene(tmp_path / "a.tif", image, nodata=0)) as scene:
        small, valid = scene.thumbnail(20)
        assert small.shape == (20, 10, 3)
        assert not valid[:10].any()
        assert valid[10:].all()
        assert scene.thumbnail(1000)[0].shape == image.shape


def broken_png(width, height):
    """Returns a PNG with a header that claims more pixels than the file contains."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4)
        return len(data).to_bytes(4) + kind + data + checksum

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_files_that_are_not_images_raise(tmp_path):
    (tmp_path / "text.tif").write_text("not an image")
    for name, message in {
        "text.tif": "cannot be read as an image",
        "gone.tif": "the file does not exist",
    }.items():
        with pytest.raises(InputError, match=message), open_scene(tmp_path / name):
            pass
    (tmp_path / "bomb.png").write_bytes(broken_png(60000, 60000))
    with (
        pytest.raises(InputError, match="claims 60000x60000 pixels in .* bytes"),
        open_scene(tmp_path / "bomb.png"),
    ):
        pass


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("damage", ["truncated", "cleared", "changed"])
def test_damaged_pictures_raise(tmp_path, suffix, damage):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(60, 60)).save(path, progressive=True)
    data = path.read_bytes()
    middle = len(data) // 2
    end = {
        "truncated": b"",
        "cleared": bytes(len(data) - middle),
        "changed": bytes(99) + data[middle + 99 :],
    }[damage]
    path.write_bytes(data[:middle] + end)
    with pytest.raises(InputError, match=f"a{suffix} .*complete"), open_scene(path) as scene:
        whole(scene)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_tags_are_not_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("a.png", "a.tif"):
        Image.fromarray(noise(30, 40)).save(tmp_path / name, exif=exif)
        with open_scene(tmp_path / name) as scene:
            np.testing.assert_array_equal(whole(scene), noise(30, 40))


def test_truncated_file_raises(tmp_path):
    path = write_scene(tmp_path / "a.tif", noise(600, 600))
    os.truncate(path, 500_000)
    with open_scene(path) as scene:
        scene.read(slice(0, 10), slice(0, 10))
        with pytest.raises(InputError, match="a.tif cannot be read as an image.*complete"):
            scene.read(slice(590, 600), slice(0, 600))


def test_pixels_are_nodata_by_transparency_and_by_value(tmp_path):
    image = noise(40, 60, 4)
    image[..., 3] = 255
    image[:10, :, 3] = 0
    image[30:, :, :3] = 0
    path = write_scene(tmp_path / "a.tif", image, nodata=0, photometric="RGB", alpha="YES")
    with open_scene(path) as scene:
        assert scene.notes == [
            "band 4 is the transparency mask; about 25.0% of the pixels are nodata"
        ]
        expected = np.zeros((40, 60), bool)
        expected[10:30] = True
        np.testing.assert_array_equal(valid_pixels(scene), expected)
        np.testing.assert_array_equal(scene.thumbnail(30)[1], expected[1::2, 1::2])
    with (
        pytest.raises(InputError, match="needs one mask.*-unsetnodata"),
        open_scene(path, SceneReading(resample_to=1)),
    ):
        pass


def test_file_without_bands_names_the_images_inside(tmp_path):
    file = tmp_path / "a.gpkg"
    options = {"driver": "GPKG", "crs": "EPSG:32633", "APPEND_SUBDATASET": "YES"}
    for name in ("north", "south"):
        write_scene(file, noise(8, 9), RASTER_TABLE=name, **options)
    with (
        pytest.raises(InputError, match=r"contains 2 images, such as GPKG:.*north.*gdal_translate"),
        open_scene(file),
    ):
        pass


def test_other_pages_of_a_tiff_are_reported(tmp_path):
    pages = [Image.fromarray(noise(8, 9)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.notes == [
            "warning: the file contains 3 images; only the first image is mapped"
        ]


def test_coordinate_system_without_a_position_is_not_used(tmp_path):
    path = write_scene(tmp_path / "a.tif", noise(8, 9), transform=None)
    with open_scene(path) as scene:
        assert scene.grid.crs is None
        assert re.match("warning: .*a coordinate system, but no geotransform", *scene.notes)
    with (
        pytest.raises(InputError, match="`resample_to`.*"),
        open_scene(path, SceneReading(resample_to=1)),
    ):
        pass


def test_jpeg_with_a_world_file_is_resampled(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(40, 60)).save(path)
    path.with_suffix(".jgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n5199999.75\n")
    with rasterio.open(path, "r+") as dataset:
        dataset.crs = "EPSG:32633"
    with open_scene(path, SceneReading(resample_to=1)) as scene:
        assert scene.grid.size == (20, 30)
        assert scene.grid.crs == rasterio.CRS.from_epsg(32633)
        assert scene.grid.transform == HALF_METER @ rasterio.Affine.scale(2)
        pixels = np.asarray(Image.open(path), np.float32).reshape(20, 2, 30, 2, 3)
        np.testing.assert_allclose(whole(scene), pixels.mean(axis=(1, 3)), atol=0.51)


def test_name_that_is_not_utf_8_raises(tmp_path):
    path = write_scene(tmp_path / "a.tif", noise(8, 9))
    renamed = path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.tif"))
    with (
        pytest.raises(InputError, match="must be UTF-8. Received: b'.*xff.*Rename"),
        open_scene(renamed),
    ):
        pass


ALPHA, COLORS = ColorInterp.alpha, [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


@pytest.mark.parametrize("meters", [None, 1])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "interpretation",
    [
        [*COLORS, ALPHA],
        [*COLORS, ColorInterp.nir, ALPHA],
        [ALPHA, *COLORS],
        [*COLORS, ALPHA, ALPHA],
    ],
)
def test_transparency_band_at_any_place_is_a_mask(tmp_path, interpretation, dtype, meters):
    """GDAL itself uses only the last of two or four integer bands as a mask."""
    image = noise(40, 60, len(interpretation), dtype)
    for band, kind in enumerate(interpretation):
        if kind == ALPHA:
            image[..., band] = 255
            image[:16, :, band] = 0
    path = write_scene(tmp_path / "a.tif", image, colorinterp=interpretation)
    with open_scene(path, SceneReading(scale=(0, 255), resample_to=meters)) as scene:
        assert "the transparency mask; about 40.0% of the pixels are nodata" in scene.notes[0]
        valid = valid_pixels(scene)
    expected = np.repeat([False, True], [16, 24])[:: 1 if meters is None else 2]
    np.testing.assert_array_equal(valid, np.broadcast_to(expected[:, None], valid.shape))


def test_mask_of_a_jpeg_is_kept(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(40, 60)).save(path)
    expected = np.arange(40) >= 16
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.broadcast_to(expected[:, None], (40, 60)))
    with open_scene(path) as scene:
        assert valid_pixels(scene).all(axis=1).tolist() == expected.tolist()


def test_jpeg_inside_a_zip_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(40, 60)).save(tmp_path / "a.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.jpg", "a.jpg")
    with open_scene(Path("/vsizip/a.zip/a.jpg")) as scene:
        assert whole(scene).shape == (40, 60, 3)


def test_descriptions_of_a_jpeg_are_kept(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(40, 60)).save(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("blue", "green", "red")
    with open_scene(path) as scene:
        assert scene.notes == [
            "bands 3,2,1 are red, green and blue, according to their descriptions"
        ]
        np.testing.assert_array_equal(whole(scene), np.asarray(Image.open(path))[..., ::-1])


@pytest.mark.parametrize(("factor", "warns"), [(1, False), (1e-4, True)])
def test_scene_in_another_unit_causes_a_warning(tmp_path, factor, warns):
    image = (np.random.default_rng(0).uniform(200, 3000, (2, 700, 900)) * factor).astype(np.float32)
    image[:, :600] = np.nan  # the windows at the top contain no valid pixel
    options = {"driver": "GTiff", "dtype": "float32", "count": 2, "height": 700, "width": 900}
    with rasterio.open(tmp_path / "a.tif", "w", **options) as dataset:
        dataset.write(image)
        dataset.descriptions = ("red", "nir")
    bands = Bands(("red", "nir"), ((120, 3000),) * 2, dtype="float32")
    with open_scene(tmp_path / "a.tif", bands=bands) as scene:
        expected = ["warning: 100 % of the values of band red are outside [120, 3000]"]
        assert [note[: len(expected[0])] for note in scene.notes] == expected * warns
