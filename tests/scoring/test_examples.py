import io

import numpy as np
import pytest
from PIL import Image

from lcc_tf.data.pipeline import encoded_examples, evaluation_batches
from lcc_tf.errors import InputError
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.resizing import resize_example


def test_resized_examples_equal_the_batches_of_the_input_pipeline(builder):
    batches = evaluation_batches(builder, "validation", image_size=32, batch_size=1)
    natives = split_examples(builder, "validation", "reading")
    for (images, masks), native in zip(batches.as_numpy_iterator(), natives, strict=True):
        image, mask = resize_example(*native, (32, 32))
        np.testing.assert_array_equal(image, images[0])
        np.testing.assert_array_equal(mask, masks[0])


def test_split_examples_equal_the_pixels_of_the_files(builder):
    example = next(encoded_examples(builder, "test").as_numpy_iterator())
    image, mask = next(split_examples(builder, "test", "reading"))
    with Image.open(io.BytesIO(example["segmentation_mask"])) as file:
        np.testing.assert_array_equal(mask, np.asarray(file))
    with Image.open(io.BytesIO(example["image"])) as file:
        assert np.abs(image.astype(int) - np.asarray(file)).max() <= 1
    assert (image.dtype, mask.dtype) == (np.uint8, np.int32)
    with pytest.raises(InputError, match="'holdout'"):
        next(split_examples(builder, "holdout", "reading"))
