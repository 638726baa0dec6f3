"""Network of a training: it is built once, then compiled again for each phase.

A phase is a group of consecutive epochs with the same trainable layers.
"""

import keras
import tensorflow as tf

from lcc_tf.bands import Bands
from lcc_tf.config import XLA, TrainConfig
from lcc_tf.losses import get_loss
from lcc_tf.metrics import ImagewiseScore, MeanIoU
from lcc_tf.models import build_model
from lcc_tf.training.distribution import adapt_to_workers, synchronize_batch_norm
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.optimizer import AveragingAdamW
from lcc_tf.training.phases import Phase, learning_rate_of


def build_network(
    config: TrainConfig,
    num_classes: int,
    *,
    pretrained: bool,
    bands: Bands | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> keras.Model:
    """Builds the network of a configuration, in the precision of the configuration.

    Args:
        config: configuration with architecture, encoder, image size and precision.
        num_classes: number of classes.
        pretrained: if True, load the initial weights of the encoder. Use False if a checkpoint is
            loaded afterwards, because the checkpoint replaces all weights.
        bands: bands of the images; None for RGB in [0, 255].
        strategy: strategy of the training; None for TensorFlow's default strategy.

    Returns:
        Model with the following input and outputs.

            - Input: images, float32 `(batch, image_size, image_size, channels)`: RGB in [0, 255],
              or `bands` with their original values.
            - Output: logits, float32 `(batch, image_size, image_size, num_classes)`.
            - With deep supervision, several outputs: first the mean logits of all heads, then the
              logits of each head.
    """
    strategy = strategy or tf.distribute.get_strategy()
    options = config.model_options()
    if bands:
        options |= {"bands": bands, "new_bands": config.new_bands}
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        with strategy.scope():
            model = build_model(
                config.arch,
                num_classes,
                encoder_weights=config.encoder_weights if pretrained else None,
                input_shape=(config.image_size, config.image_size, len(bands) if bands else 3),
                **options,
            )
    finally:
        keras.config.set_dtype_policy(policy)
    synchronize_batch_norm(model, strategy)
    adapt_to_workers(model, strategy)
    return model


def compile_for(
    phase: Phase,
    model: keras.Model,
    config: TrainConfig,
    rules: LabelRules,
    steps_per_epoch: int,
) -> None:
    """Sets the trainable layers of a phase and compiles the model with a new optimizer.

    Args:
        phase: phase to train.
        model: result of `build_network`. It is changed in place.
        config: configuration with the loss, the learning rate schedule, the moving average and the
            use of XLA.
        rules: number of classes, ignored class and class weights.
        steps_per_epoch: batches per epoch.
    """
    encoder = model.get_layer("encoder")
    encoder.trainable = phase.encoder_trains
    loss = get_loss(
        config.loss,
        class_weights=rules.class_weights,
        label_smoothing=config.label_smoothing,
        ignore_class=rules.ignore_class,
    )
    # Accuracy, precision and recall need no metrics: `history.with_original_scores` computes them
    # from "f1".
    scores = [
        MeanIoU(rules.num_classes, ignore_class=rules.ignore_class),
        ImagewiseScore("iou", rules.num_classes, ignore_class=rules.ignore_class),
        ImagewiseScore("f1", rules.num_classes, ignore_class=rules.ignore_class),
    ]
    num_heads = len(model.outputs) - 1
    if num_heads:
        # The scores use the first output, which is the mean of all heads. The losses use the heads.
        outputs = {
            "loss": [None, *([loss] * num_heads)],
            "loss_weights": [0.0, *([1 / num_heads] * num_heads)],
            "metrics": [scores, *([] for _ in range(num_heads))],
        }
    else:
        outputs = {"loss": loss, "metrics": scores}
    optimizer = _optimizer(phase, model, config, steps_per_epoch)
    model.compile(optimizer, jit_compile=XLA[config.xla], **outputs)
    # In float16, Keras wraps the optimizer. The wrapper would create its variables in the first
    # step, and a checkpoint could then not be loaded before the first step.
    model.optimizer.build(model.trainable_variables)


def _optimizer(
    phase: Phase, model: keras.Model, config: TrainConfig, steps_per_epoch: int
) -> AveragingAdamW:
    """Returns the optimizer of a phase, built for the model's trainable variables."""
    encoder = model.get_layer("encoder")
    # The weights of a frozen encoder do not change. They therefore need no averages.
    frozen = () if phase.encoder_trains else {id(variable) for variable in encoder.weights}
    averaged = [variable for variable in model.weights if id(variable) not in frozen]
    optimizer = AveragingAdamW(
        learning_rate_of(phase, config.schedule, steps_per_epoch),
        weight_decay=config.weight_decay,
        slow_variables=encoder.trainable_variables,
        slow_rate=config.encoder_rate,
        averaged_variables=averaged if config.ema_decay else (),
        average_decay=config.ema_decay,
        accumulate=config.accumulate,
    )
    # Build the optimizer now. If the first step created variables, the step would be traced twice.
    optimizer.build(model.trainable_variables)
    return optimizer
