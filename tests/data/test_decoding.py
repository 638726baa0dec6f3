import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.data.decoding import decode_image, decode_mask, decode_window, image_encoding
from lcc_tf.data.framing import RandomCrops, decode, quarters_of
from tfds_deepglobe.decoding import decode_image as verify_image
from tfds_deepglobe.errors import InputError

HEIGHT, WIDTH = 90, 122


@pytest.fixture(scope="module")
def examples():
    """Returns two examples with the same pixels, one as a JPEG file and one as a PNG file."""
    rng = np.random.default_rng(0)
    mask = tf.io.encode_png(rng.integers(0, 9, (HEIGHT, WIDTH, 1), np.uint8))
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    # Chroma downsampling is disabled. It would change the pixels at the border of a crop, because
    # the decoder does not know the pixels outside the crop.
    jpeg = tf.io.encode_jpeg(image, chroma_downsampling=False)
    png = tf.io.encode_png(decode_image(jpeg, "jpeg"))
    return {
        encoding: {"image": image, "segmentation_mask": mask}
        for encoding, image in (("jpeg", jpeg), ("png", png))
    }


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_encoding_of_a_prepared_data_set(builder):
    assert image_encoding(builder) == "jpeg"


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_window_contains_the_same_pixels_as_the_image(examples, encoding):
    data = examples[encoding]["image"]
    whole = decode_image(data, encoding)
    assert whole.dtype == tf.uint8
    assert whole.shape == (HEIGHT, WIDTH, 3)
    for row, column, height, width in ((0, 0, 90, 122), (3, 40, 17, 1), (89, 121, 1, 1)):
        window = decode_window(
            data, encoding, tf.constant([row, column]), tf.constant([height, width])
        )
        np.testing.assert_array_equal(window, whole[row : row + height, column : column + width])


def test_colors_at_the_border_of_a_jpeg_window_equal_the_colors_of_the_image():
    """In the file, each block of 2x2 pixels shares one chroma value."""
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (97, 130, 3), np.uint8))
    noise.save(content, "JPEG", quality=90, subsampling="4:2:0")
    data = tf.constant(content.getvalue())
    whole = decode_image(data, "jpeg").numpy()
    for _ in range(20):
        (top, bottom), (left, right) = (
            np.sort(rng.choice(side, 2, replace=False)) for side in whole.shape[:2]
        )
        corner, size = tf.constant([top, left]), tf.constant([bottom - top, right - left])
        window = decode_window(data, "jpeg", tf.cast(corner, tf.int32), tf.cast(size, tf.int32))
        np.testing.assert_array_equal(window, whole[top:bottom, left:right])


def damaged(data, rng):
    """Returns a file with random changes: bytes, a cleared part, or a missing part."""
    data = bytearray(data)
    start, count = int(rng.integers(2, len(data))), int(rng.integers(1, 200))
    match rng.integers(5):
        case 0:
            data[start] ^= int(rng.integers(1, 256))
        case 1:
            data[start:] = bytes(len(data) - start)
        case 2:
            data[start : start + count] = bytes(len(data[start : start + count]))
        case 3:
            del data[start : start + count]
        case 4:
            data[start:start] = rng.bytes(count)
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's warnings about damaged EXIF data
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_jpeg_files_that_check_accepts_are_decoded_to_the_same_pixels(options):
    """JPEG files have no checksums. Damage can change pixels, but not their number."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 48))
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    accepted = 0
    for _ in range(200):
        data = damaged(file.getvalue(), rng)
        try:
            image, _ = verify_image(data, "JPEG")
        except InputError:
            continue
        accepted += 1
        np.testing.assert_array_equal(decode_image(data, "jpeg"), image)
    assert 0 < accepted < 150


def test_decoded_masks_are_class_ids(examples):
    mask = decode_mask(examples["png"]["segmentation_mask"])
    assert mask.dtype == tf.uint8
    assert mask.shape == (HEIGHT, WIDTH)
    assert set(np.unique(mask)) == set(range(9))


def test_alpha_channel_is_ignored():
    opaque = tf.io.encode_png(np.full((4, 4, 4), (9, 8, 7, 255), np.uint8))
    assert decode_image(opaque, "png")[0, 0].numpy().tolist() == [9, 8, 7]


@pytest.mark.parametrize("image_size", [32, 64, 256])
def test_crops_of_png_equal_crops_of_jpeg(examples, image_size):
    """Includes images that are smaller than the crop along one or both sides."""
    crops = RandomCrops((0.5, 2.0), 0.5, np.ones(9, np.float32))
    for seed in range(8):
        seed = tf.constant([0, seed], tf.int64)
        assert_same(
            *(crops(example, image_size, seed, encoding) for encoding, example in examples.items())
        )
    for frame in (decode, quarters_of):
        assert_same(
            *(frame(example, image_size, encoding) for encoding, example in examples.items())
        )
