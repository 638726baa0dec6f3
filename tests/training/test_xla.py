"""XLA can compile the steps of training, validation and prediction.

Keras compiles steps with XLA on a single GPU. Most tests here need no GPU: they lower a step, which
means that they translate it to operations of XLA without compiling it. Lowering raises an error for
operations that XLA does not have, and is faster than compilation.
"""

import multiprocessing
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.config import PRECISIONS, TrainConfig
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.losses import LOSS_TERMS, get_loss
from lcc_tf.models import ARCHITECTURES, build_model, ensemble
from lcc_tf.models.encoders import ENCODERS
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import Phase
from tests.untrained_runs import small_unet
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

# Side of the images, pixels. It is divisible by the strides of all networks and by the pooling of
# PSPNet.
SIDE = 64
NUM_CLASSES = 5
# Largest number of characters of a constant in the text of a lowered step. The longest expected
# constants are shapes. A weight must not become a constant; its text would be longer.
LONGEST_CONSTANT = 1000

# These steps cover both networks and all options. A test with a small network covers float16. Other
# steps are slow tests.
STEPS = [
    ("unetpp", "float32", "cross_entropy+dice", {"deep_supervision": True, "encoder_rate": 0.1}),
    (
        *("deeplabv3plus", "mixed_bfloat16", "lovasz"),
        {"regime": "frozen", "ema_decay": 0.999, "output_stride": 8},
    ),
]
SLOW_STEPS = [
    ("deeplabv3plus", "mixed_float16", "focal", {"output_stride": 8, "label_smoothing": 0.1}),
    ("deeplabv3plus", "float32", "lovasz", {"regime": "frozen", "ema_decay": 0.999}),
    ("deeplabv3plus", "mixed_float16", "focal", {"output_stride": 8, "regime": "frozen"}),
    ("unetpp", "mixed_float16", "jaccard", {"ema_decay": 0.999}),
    ("unetpp", "mixed_bfloat16", "lovasz", {"deep_supervision": True}),
    ("deeplabv3plus", "mixed_bfloat16", "cross_entropy", {"label_smoothing": 0.1}),
    ("unetpp", "mixed_bfloat16", "focal", {"regime": "frozen"}),
    ("unetpp", "float32", "dice", {"deep_supervision": True, "ema_decay": 0.999}),
    ("unetpp", "mixed_float16", "cross_entropy", {"deep_supervision": True, "regime": "frozen"}),
    ("deeplabv3plus", "mixed_float16", "cross_entropy+dice", {"encoder_rate": 0.1}),
    ("deeplabv3plus", "float32", "jaccard", {"output_stride": 8}),
    ("deeplabv3plus", "mixed_bfloat16", "dice", {"output_stride": 8, "ema_decay": 0.999}),
]


def config_of(arch="deeplabv3plus", encoder="tiny", **options):
    return TrainConfig(arch=arch, encoder=encoder, encoder_weights=None, image_size=SIDE, **options)


def compile_for_training(model, config):
    phase = Phase(0, 10, config.regime != "frozen", 1e-3, stops_early=True)
    rules = LabelRules(NUM_CLASSES, ignore_class=4, class_weights=(1.0, 2.0, 0.5, 1.0, 1.0))
    compile_for(phase, model, config, rules, steps_per_epoch=10)
    return model


def compiled_network(config):
    network = build_network(config, NUM_CLASSES, pretrained=False)
    return compile_for_training(network, config)


def batch(num_outputs=1):
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (2, SIDE, SIDE, 3)), tf.float32)
    masks = tf.constant(rng.integers(-1, NUM_CLASSES, (2, SIDE, SIDE)), tf.int32)
    return images, masks if num_outputs == 1 else (masks,) * num_outputs


def lowered(function, *arguments):
    """Converts a function to a text of XLA operations. Raises if XLA lacks an operation."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return compiled.experimental_get_compiler_ir(*arguments)(stage="hlo")


def require_lowering(model):
    images, masks = batch(len(model.outputs))
    model.run_eagerly = True
    model.test_on_batch(images, masks)  # creates the variables of the metrics
    model.run_eagerly = False
    for step in (model.train_step, model.test_step):
        require_short_constants(lowered(step, (images, masks)))


def require_short_constants(text):
    constants = re.findall(r"\bconstant\((.*?)\)", text)
    assert constants
    assert max(map(len, constants)) < LONGEST_CONSTANT


@pytest.mark.parametrize(
    ("arch", "precision", "loss", "options"),
    [*STEPS, *(pytest.param(*step, marks=pytest.mark.slow) for step in SLOW_STEPS)],
)
def test_training_and_validation_steps_can_be_lowered(arch, precision, loss, options):
    require_lowering(compiled_network(config_of(arch, precision=precision, loss=loss, **options)))


@pytest.mark.parametrize(
    "options",
    [{"precision": "mixed_float16", "loss": "focal", "label_smoothing": 0.1}, {"accumulate": 2}],
)
def test_steps_with_conditions_can_be_lowered(options, monkeypatch):
    """Scaled losses in float16 and accumulated gradients need a condition in the training step."""
    monkeypatch.setitem(ARCHITECTURES, "deeplabv3plus", small_unet)
    require_lowering(compiled_network(config_of(**options)))


@pytest.mark.parametrize("loss", LOSS_TERMS)
def test_each_loss_and_its_gradient_can_be_lowered(loss):
    loss_function = get_loss(loss, ignore_class=4)

    def gradient(masks, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss_function(masks, logits)
        return tape.gradient(value, logits)

    _, masks = batch()
    lowered(gradient, masks, tf.zeros((2, SIDE, SIDE, NUM_CLASSES)))


def require_lowering_in_new_process(arch, encoder, precision):
    """Lowers the steps in a new process. Otherwise, TensorFlow keeps 1 GB per network."""
    process = multiprocessing.get_context("spawn").Process(
        target=lower_network, args=(arch, encoder, precision)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


def lower_network(arch, encoder, precision):
    require_lowering(compiled_network(config_of(arch, encoder, precision=precision)))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_steps_with_each_encoder_can_be_lowered(arch, precision, encoder):
    require_lowering_in_new_process(arch, encoder, precision)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["unet", "fpn", "linknet", "pspnet"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_of_each_baseline_can_be_lowered(arch, precision):
    require_lowering_in_new_process(arch, "resnet18", precision)


def test_prediction_of_an_ensemble_can_be_lowered_for_any_image_size():
    # Both networks accept images of any size. The second network receives reduced images.
    networks = [
        build_model(arch, NUM_CLASSES, encoder="tiny", encoder_weights=None)
        for arch in ("unetpp", "deeplabv3plus")
    ]
    model = ensemble(networks, scales=[1, 0.4])
    require_short_constants(lowered(model.predict_step, (batch()[0],)))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_prediction_can_be_lowered_for_any_image_size(arch):
    model = build_model(arch, NUM_CLASSES, encoder="tiny", encoder_weights=None)
    require_short_constants(lowered(model.predict_step, (batch()[0],)))


def test_exported_savedmodel_can_be_lowered(tmp_path):
    # Other tests lower the layers of the large networks.
    source = SourceModel(ensemble([small_unet(7)]), DEEPGLOBE_CLASSES, tile=SIDE)
    export_savedmodel(source, tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    serve = loaded.signatures["serving_default"]
    image = tf.zeros((1, 57, 70, 3), tf.uint8)  # height and width are not divisible by a stride
    require_short_constants(lowered(lambda image: serve(image=image), image))


def small_network(config):
    """Builds a network of two convolutions, which XLA compiles in seconds."""
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same")(image)
    encoder = keras.Model(image, keras.layers.BatchNormalization()(x), name="encoder")
    x = keras.layers.UpSampling2D(4)(encoder(image))
    network = keras.Model(image, keras.layers.Conv2D(NUM_CLASSES, 1)(x))
    return compile_for_training(network, config)


@pytest.mark.parametrize(
    "network", [small_network, pytest.param(compiled_network, marks=pytest.mark.slow)]
)
def test_steps_with_and_without_xla_are_equal(network):
    results = []
    for xla in ("off", "on"):
        keras.utils.set_random_seed(0)
        model = network(config_of("unetpp", xla=xla, encoder_rate=0.1, ema_decay=0.9))
        assert model.jit_compile == (xla == "on")
        logs = model.train_on_batch(*batch(), return_dict=True)
        logs |= {
            f"val_{name}": value
            for name, value in model.test_on_batch(*batch(), return_dict=True).items()
        }
        trained = model.get_weights()
        model.optimizer.swap_averages()
        results.append((logs, [*trained, *model.get_weights()]))
    (logs, weights), (expected_logs, expected_weights) = results
    assert logs == pytest.approx(expected_logs, rel=1e-4)
    for one, other in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
