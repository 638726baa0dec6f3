"""Networks, losses and metrics with the methods of Keras: compile, fit, save, load."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.losses import CrossEntropy, CrossEntropyDice, Dice, Focal, Jaccard, Lovasz
from lcc_tf.metrics import ImagewiseScore, MeanIoU, PixelAccuracy
from lcc_tf.models import ARCHITECTURES, DeepLabV3Plus, UNetPlusPlus, build_model, ensemble

VOID = 255
LOSSES = [CrossEntropy, Focal, Dice, Jaccard, Lovasz, CrossEntropyDice]


def batch(num_classes=3, size=32, count=4):
    """Returns images, and masks in the format of the data set: uint8, one channel, void pixels."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (count, size, size, 3)).astype(np.float32)
    masks = rng.integers(0, num_classes, (count, size, size, 1)).astype(np.uint8)
    masks[:, : size // 4] = VOID
    return images, masks


def one_layer(num_classes=3):
    """Builds a network with a single convolution."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(num_classes, 1),
        ]
    )


def compiled(model, loss=None, num_classes=3):
    """Compiles a model with three metrics.

    The model runs eagerly, because tracing a graph would take most of the time.
    """
    scores = [
        MeanIoU(num_classes, ignore_class=VOID),
        PixelAccuracy(num_classes, ignore_class=VOID),
        ImagewiseScore("iou", num_classes, ignore_class=VOID),
    ]
    loss = loss or CrossEntropyDice(ignore_class=VOID)
    model.compile(keras.optimizers.AdamW(1e-3), loss=loss, metrics=scores, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def trained():
    """DeepLabV3+ after four steps of `fit`."""
    keras.utils.set_random_seed(0)
    loss = 0.5 * Dice(ignore_class=VOID) + Focal(ignore_class=VOID, class_weights=(1, 2, 3))
    model = compiled(DeepLabV3Plus(3, encoder="tiny", encoder_weights=None), loss)
    model.get_layer("aspp_dropout").rate = 0.0  # a loaded copy must train in the same way
    model.fit(*batch(), batch_size=2, epochs=2, shuffle=False, verbose=0)
    return model


# Training


@pytest.mark.parametrize("loss_class", LOSSES)
def test_masks_with_a_channel_and_void_pixels_train(loss_class):
    model = compiled(one_layer(), loss_class(ignore_class=VOID))
    history = model.fit(*batch(), epochs=2, validation_data=batch(), verbose=0).history
    assert set(history) == {
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in ("loss", "mean_iou", "pixel_accuracy", "iou")
    }
    assert np.isfinite(list(history.values())).all()
    assert history["val_loss"][1] < history["val_loss"][0]


def test_labels_outside_the_classes_raise():
    model = compiled(one_layer(), CrossEntropyDice())
    model.run_eagerly = False  # by default, Keras trains with a graph
    with pytest.raises(tf.errors.InvalidArgumentError, match="use `ignore_class=255`"):
        model.fit(*batch(), verbose=0)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_sample_weights_of_fit_change_the_loss(loss_class):
    images, masks = batch()
    weights = np.where(masks == VOID, 0, 1 + np.arange(4).reshape(4, 1, 1, 1)).astype(np.float32)
    model = one_layer()
    loss = loss_class(ignore_class=VOID)
    model.compile(
        "sgd", loss=loss, weighted_metrics=[MeanIoU(3, ignore_class=VOID)], run_eagerly=True
    )
    logits = model(images)
    for sample_weight in (weights, weights[..., 0]):
        value, score = model.evaluate(images, masks, 4, 0, sample_weight)
        assert value == pytest.approx(float(loss(masks, logits, weights)), rel=1e-5)
        assert value != pytest.approx(float(loss(masks, logits)), rel=1e-5)
        metric = MeanIoU(3, ignore_class=VOID)
        metric.update_state(masks, logits, weights)
        assert score == pytest.approx(float(metric.result()))


@pytest.mark.parametrize("monitor", ["val_mean_iou", "val_pixel_accuracy", "val_iou"])
def test_early_stopping_maximizes_the_metrics(monitor):
    model = compiled(one_layer())
    stop = keras.callbacks.EarlyStopping(monitor)
    model.fit(*batch(), validation_data=batch(), callbacks=[stop], verbose=0)
    assert stop.monitor_op(1, 0)
    assert not stop.monitor_op(0, 1)


def test_binary_task_with_two_classes():
    model = compiled(DeepLabV3Plus(2, encoder="tiny", encoder_weights=None), num_classes=2)
    images, masks = batch(num_classes=2)
    logs = model.train_on_batch(images, masks, return_dict=True)
    assert np.isfinite(list(logs.values())).all()
    assert ensemble([model])(images).shape == (4, 32, 32, 2)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("num_classes", [1, 0, 2.5, 7.0, "7"])
def test_invalid_numbers_of_classes_raise(arch, num_classes):
    with pytest.raises(InputError, match=f"num_classes={num_classes!r}. Use num_classes=2"):
        build_model(arch, num_classes, encoder_weights=None)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    "shape", [(64, 64, 1), (64, 64, 4), (2, 64, 64, 3), (0, 64, 3), (64, 64), 64, (64.0, 64, 3)]
)
def test_input_shapes_other_than_rgb_images_raise(arch, shape):
    with pytest.raises(InputError) as error:
        build_model(arch, 7, encoder_weights=None, input_shape=shape)
    message = "`input_shape` must be (height, width, 3), because the images are RGB. Received: "
    assert str(error.value).startswith(f"{message}input_shape={shape}.")


@pytest.fixture(scope="module")
def networks():
    """Key: architecture. Value: small network."""
    encoders = {"unetpp": "tiny", "deeplabv3plus": "tiny", "pspnet": "resnet18"}
    return {
        arch: build_model(arch, 3, encoder=encoder, encoder_weights=None)
        for arch, encoder in encoders.items()
    }


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus", "pspnet"])
def test_call_without_the_argument_training_is_inference(arch, networks):
    model = networks[arch]
    images, _ = batch(count=1)
    expected = model(images, training=False)
    np.testing.assert_array_equal(model(images), expected)
    assert np.abs(model(images, training=True) - expected).max() > 1e-6


# Saving and loading


def test_compiled_model_loads_and_continues_training(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    images, masks = batch()
    np.testing.assert_allclose(loaded.predict(images, verbose=0), trained(images), atol=1e-6)
    assert loaded.loss.get_config() == trained.loss.get_config()
    scores = [model.evaluate(images, masks, verbose=0) for model in (loaded, trained)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    for one, other in zip(loaded.optimizer.variables, trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(loaded.optimizer.iterations) == 4
    logs = [model.train_on_batch(images, masks, return_dict=True) for model in (loaded, trained)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for one, other in zip(loaded.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_network_from_config_returns_the_same_logits(arch, networks):
    model = networks[arch]
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    images, _ = batch(count=1)
    np.testing.assert_array_equal(again(images), model(images))


def test_missing_segmentation_models_raises(monkeypatch):
    # Python treats the module as not installed.
    monkeypatch.setitem(sys.modules, "segmentation_models", None)
    with pytest.raises(InputError, match=r"need segmentation-models, which.*'lcc_tf\[baselines\]'"):
        ARCHITECTURES["fpn"](3, encoder="resnet18", encoder_weights=None)


def test_deep_supervision_trains_with_a_loss_per_head(eagerly):
    model = UNetPlusPlus(3, encoder="tiny", encoder_weights=None, deep_supervision=True)
    loss = CrossEntropyDice(ignore_class=VOID)
    model.compile("sgd", loss=[None, *([loss] * 4)], run_eagerly=True)
    images, masks = batch(count=2)
    value = model.train_on_batch(images, [masks] * 5)
    assert np.isfinite(value).all()
