import io

import numpy as np
import pytest
from PIL import Image

from lcc_tf.data.pipeline import encoded_examples, evaluation_batches
from lcc_tf.errors import InputError
from lcc_tf.scoring.examples import native_images
from lcc_tf.scoring.resizing import at_side


def test_resized_examples_equal_the_batches_of_training(builder):
    batches = evaluation_batches(builder, "validation", image_size=32, batch_size=1)
    natives = native_images(builder, "validation", "reading")
    for (images, masks), native in zip(batches.as_numpy_iterator(), natives, strict=True):
        image, mask = at_side(*native, 32)
        np.testing.assert_array_equal(image, images[0])
        np.testing.assert_array_equal(mask, masks[0])


def test_native_images_are_the_files_pixels(builder):
    example = next(encoded_examples(builder, "test").as_numpy_iterator())
    image, mask = next(native_images(builder, "test", "reading"))
    with Image.open(io.BytesIO(example["segmentation_mask"])) as file:
        np.testing.assert_array_equal(mask, np.asarray(file))
    with Image.open(io.BytesIO(example["image"])) as file:
        assert np.abs(image.astype(int) - np.asarray(file)).max() <= 1
    assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)
    with pytest.raises(InputError, match="'holdout'"):
        next(native_images(builder, "holdout", "reading"))
