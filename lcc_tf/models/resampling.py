"""Layers that change the height and width of feature maps of any size."""

import keras
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_padded_indices


@keras.saving.register_keras_serializable("lcc_tf")
class BilinearUpsampling(keras.layers.Layer):
    """Upsamples feature maps bilinearly.

    `UpSampling2D(interpolation="bilinear")` and `keras.ops.image.resize` cannot be exported for
    images of unknown size. This layer can be exported, because it uses functions of TensorFlow.

    Args:
        factor: ratio of the output size to the input size, for height and width.
        align_corners: True to align the centers of the corner pixels of input and output, like
            `UpsamplingBilinear2d` of PyTorch. False to align the outer edges of input and
            output, like `tf.image.resize`.

    Raises:
        InputError: `factor` is not a whole number of at least 1.

    Example:
        >>> BilinearUpsampling(2)(np.zeros((1, 8, 4, 3))).shape
        TensorShape([1, 16, 8, 3])
    """

    def __init__(self, factor: int, align_corners: bool = False, **kwargs: object) -> None:
        if factor != int(factor) or factor < 1:
            raise InputError(
                f"`factor` must be a whole number of at least 1. Received: factor={factor}."
            )
        super().__init__(**kwargs)
        self.factor = int(factor)
        self.align_corners = align_corners

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Upsamples feature maps, float `(batch, height, width, channels)`."""
        # If the input size is known, compute the output size with Python integers. Then the output
        # size is also known.
        size = [
            side * self.factor if side is not None else tf.shape(x)[axis] * self.factor
            for axis, side in enumerate(x.shape[1:3], start=1)
        ]
        if self.align_corners:
            upsampled = tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
        else:
            upsampled = tf.image.resize(x, size, method="bilinear")
        return tf.cast(upsampled, x.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Multiplies height and width by `factor`."""
        batch, height, width, channels = input_shape
        return (
            batch,
            None if height is None else height * self.factor,
            None if width is None else width * self.factor,
            channels,
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = {"factor": self.factor, "align_corners": self.align_corners}
        return super().get_config() | config


@keras.saving.register_keras_serializable("lcc_tf")
class BroadcastLike(keras.layers.Layer):
    """Repeats one pixel over the height and width of another tensor."""

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Repeats the pixel `x` over the height and width of `like`.

        Args:
            x: float `(batch, 1, 1, channels)`.
            like: tensor `(batch, height, width, any_channels)`.
        """
        return tf.broadcast_to(x, tf.concat([tf.shape(like)[:3], tf.shape(x)[3:]], axis=0))

    def compute_output_shape(self, x_shape: tuple, like_shape: tuple) -> tuple:
        """Returns the batch, height and width of `like` with the channels of `x`."""
        return (*like_shape[:3], x_shape[-1])


@keras.saving.register_keras_serializable("lcc_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages a feature map of any size over the cells of a grid.

    Along a side of s pixels with n cells, cell i contains the pixels from floor(i s / n) to
    ceil((i + 1) s / n) - 1. `AdaptiveAvgPool2d` of PyTorch has the same cells. If s is not
    divisible by n, the cells overlap. `keras.layers.AdaptiveAveragePooling2D` cannot replace this
    layer, because it requires a known size.

    Args:
        cells: number of cells along each side of the grid.

    Raises:
        InputError: `cells` is not a whole number of at least 1.
    """

    def __init__(self, cells: int, **kwargs: object) -> None:
        if cells != int(cells) or cells < 1:
            raise InputError(
                f"`cells` must be a whole number of at least 1. Received: cells={cells}."
            )
        super().__init__(**kwargs)
        self.cells = int(cells)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Averages feature maps, float `(batch, height, width, channels)`, over the cells."""
        rows, columns = (self._pixel_weights(tf.shape(x)[axis]) for axis in (1, 2))
        # Use float32, because a mean of many pixels in half precision would be inaccurate.
        x = tf.einsum("ih,bhwc->biwc", rows, tf.cast(x, tf.float32))
        return tf.cast(tf.einsum("jw,biwc->bijc", columns, x), self.compute_dtype)

    def _pixel_weights(self, size: tf.Tensor) -> tf.Tensor:
        """Returns the weight of each pixel in the mean of each cell, float32 `(cells, size)`."""
        cell = tf.range(self.cells)[:, None]
        start = cell * size // self.cells
        # Do not round up with `-(-n // d)`, because ONNX rounds negative quotients in the other
        # direction.
        end = ((cell + 1) * size + self.cells - 1) // self.cells
        pixel = tf.range(size)[None]
        inside = tf.cast((start <= pixel) & (pixel < end), tf.float32)
        return inside / tf.reduce_sum(inside, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Replaces height and width by `cells`."""
        return (input_shape[0], self.cells, self.cells, input_shape[-1])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"cells": self.cells}


@keras.saving.register_keras_serializable("lcc_tf")
class ConcatenateResized(keras.layers.Layer):
    """Resizes feature maps bilinearly to the size of the first map and concatenates all maps."""

    def call(self, maps: list[tf.Tensor]) -> tf.Tensor:
        """Concatenates feature maps of any sizes, float `(batch, height, width, channels)`."""
        first, *others = maps
        # If the size is known, use Python integers, so that the output size is also known.
        size = first.shape[1:3] if None not in first.shape[1:3] else tf.shape(first)[1:3]
        resized = [tf.cast(tf.image.resize(x, size), first.dtype) for x in others]
        return tf.concat([first, *resized], axis=-1)

    def compute_output_shape(self, input_shapes: list[tuple]) -> tuple:
        """Returns the shape of the first feature map with the sum of all channels."""
        return (*input_shapes[0][:3], sum(shape[-1] for shape in input_shapes))


def _scaled(size: tf.Tensor, scale: float) -> tf.Tensor:
    """Multiplies height and width, int32 `(2,)`, by `scale`. The results are 1 or more."""
    scaled = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
    return tf.maximum(scaled, 1)


@keras.saving.register_keras_serializable("lcc_tf")
class ScaleImage(keras.layers.Layer):
    """Resizes images bilinearly, then reflect-pads them to a size that a network accepts.

    Args:
        scale: ratio of the resized image to the image, for height and width.
        size_divisor: required divisor of the padded height and width.
    """

    def __init__(self, scale: float, size_divisor: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.size_divisor = size_divisor

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes and pads images, float `(batch, height, width, channels)`."""
        size = _scaled(tf.shape(image)[1:3], self.scale)
        image = tf.image.resize(image, size, method="bilinear")
        for axis in (1, 2):
            indices = reflect_padded_indices(size[axis - 1], self.size_divisor)
            image = tf.gather(image, indices, axis=axis)
        return image

    def compute_output_shape(self, shape: tuple) -> tuple:
        """Returns None for height and width, because both depend on the image."""
        return (shape[0], None, None, shape[3])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale, "size_divisor": self.size_divisor}


@keras.saving.register_keras_serializable("lcc_tf")
class UnscaleProbabilities(keras.layers.Layer):
    """Resizes the probabilities of a scaled image to the size of the original image.

    Args:
        scale: argument `scale` of the `ScaleImage` layer that scaled the image.
    """

    def __init__(self, scale: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, probabilities: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        """Crops the padding and resizes bilinearly to the size of `image`.

        Args:
            probabilities: float `(batch, padded_height, padded_width, num_classes)` in [0, 1].
            image: float `(batch, height, width, channels)`, the input of `ScaleImage`.
        """
        size = tf.shape(image)[1:3]
        height, width = tf.unstack(_scaled(size, self.scale))
        return tf.image.resize(probabilities[:, :height, :width], size, method="bilinear")

    def compute_output_shape(self, probabilities_shape: tuple, image_shape: tuple) -> tuple:
        """Returns the image's height and width with the channels of the probabilities."""
        return (*image_shape[:3], probabilities_shape[3])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale}
