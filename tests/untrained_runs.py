"""Run folders of networks with random weights, for tests that need no training."""

import dataclasses

import keras

from lcc_tf.data.dataset import class_table
from lcc_tf.models import build_model
from lcc_tf.models.blocks import batch_norm_relu, conv_bn_relu, segmentation_logits
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.runs import BEST, Run, write_run


def write_untrained_run(folder, config, builder, *, seed=0, **changes):
    """Writes a run folder and returns the run.

    Args:
        folder: path of the run folder.
        config: configuration of the run.
        builder: data set of the run.
        seed: random seed of the weights.
        changes: changed fields of the configuration.
    """
    config = dataclasses.replace(config, **changes)
    classes, fingerprint = class_table(builder), builder.info.metadata["fingerprint"]
    run = Run(folder, config, classes, fingerprint, native_size=64.0)
    keras.utils.set_random_seed(seed)
    model = build_model(
        config.arch, classes.num_classes, encoder_weights=None, **config.model_options()
    )
    with_several_classes(model)
    write_run(run, num_parameters=model.count_params())
    model.save_weights(folder / BEST)
    return run


def with_several_classes(model):
    """Scales the logits, so that a network with random weights predicts several classes."""
    head = model.get_layer("head_logits")
    head.kernel.assign(100 * head.kernel)
    return model


def small_unet(num_classes, bands=None, **options):
    """Builds a network with the layers of UNet++, two levels and stride 32. Ignores `options`.

    The network also has an encoder with batch normalization, and dropout like DeepLabV3+.
    """
    channels = len(bands) if bands else 3
    image = keras.Input((None, None, channels))
    x = EncoderPreprocessing("tf", size_divisor=32, bands=bands)(image)
    x = keras.layers.Conv2D(8, 5, strides=4, padding="same", name="stage1")(x)
    skip = batch_norm_relu(x, name="stage1")
    x = keras.layers.Conv2D(16, 9, strides=8, padding="same", name="stage2")(skip)
    encoder = keras.Model(image, [skip, x], name="encoder")
    image = keras.Input((None, None, channels), name="image")
    skip, x = encoder(image)
    x = keras.layers.UpSampling2D(8)(conv_bn_relu(x, 16, 3, name="deep"))
    x = conv_bn_relu(keras.layers.Concatenate()([x, skip]), 8, 3, name="joined")
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(image, segmentation_logits(keras.layers.UpSampling2D(4)(x), num_classes, 3))


def smallest_network(num_classes, bands=None, **options):
    """Builds a network with two convolutions, one of them in an encoder. Ignores `options`."""
    channels = len(bands) if bands else 3
    image = keras.Input((None, None, channels))
    x = EncoderPreprocessing("tf", size_divisor=32, bands=bands)(image)
    encoder = keras.Model(image, keras.layers.Conv2D(4, 1)(x), name="encoder")
    image = keras.Input((None, None, channels), name="image")
    return keras.Model(image, segmentation_logits(encoder(image), num_classes, 1))
