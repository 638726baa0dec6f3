"""Creates a run folder from a model that was trained in PyTorch."""

import dataclasses
from pathlib import Path

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.files import new_folder
from lcc_tf.models import build_model, load_torch_state_dict, read_torch_weights
from lcc_tf.models.torch_weights import as_two_classes, describe, network_arrays
from lcc_tf.runs import BEST, Run, write_run
from lcc_tf.training.checkpoints import save_weights
from tfds_deepglobe.classes import ClassTable

# Settings of DeepLabV3+ in segmentation_models_pytorch, the same at every output stride
SMP_DEEPLAB = {"dilation_rates": (12, 24, 36), "align_corners": True}


def import_torch(
    weights: Path,
    workdir: Path,
    classes: ClassTable,
    *,
    image_size: int,
    framing: str,
    native_size: float,
    preprocessing: str,
    output_stride: int = 16,
) -> Run:
    """Creates a run folder from a model of segmentation_models_pytorch.

    The architecture, the encoder and the number of classes are derived from the weights. The
    preparation of the images and the output stride of DeepLabV3+ cannot be derived, therefore they
    are arguments.

    Args:
        weights: a `.safetensors`, `.pth` or Lightning `.ckpt` file; see `read_torch_weights`.
        workdir: path of the run folder, which must be empty or new.
        classes: class table in the order of the model's output channels. For a model with one
            output channel (a sigmoid): the background and the class of the channel.
        image_size: height and width of the training images, pixels.
        framing: "whole" if the model was trained on whole images, resized to `image_size`. "crops"
            if the model was trained on crops with the side `image_size`.
        native_size: height and width of the images before they were resized, pixels.
        preprocessing: mode of `lcc_tf.models.preprocessing.EncoderPreprocessing` that converts
            images in [0, 255] to the inputs of the original training: "torch", "torch_255", "unit"
            or "none".
        output_stride: output stride of the encoder of DeepLabV3+, 16 or 8.

    Returns:
        The imported run.

    Raises:
        InputError: the file cannot be read; the weights do not match `classes` or do not belong to
            a supported network; or the folder is not empty.
    """
    if not native_size > 0:
        raise InputError(
            f"`native_size` must be larger than 0. Received: native_size={native_size}."
        )
    with new_folder(workdir, contents=set(), argument="workdir") as folder:
        state_dict, others = network_arrays(read_torch_weights(weights))
        if others:
            print(f"ignored, because not part of the network: {', '.join(others)}")
        arch, encoder, num_classes = describe(state_dict)
        if num_classes == 1:
            if classes.num_classes != 2:
                raise InputError(
                    f"`classes` must be two classes, the background and the class of the model in "
                    f"{weights}, because this model has one output channel. Received "
                    f"{classes.num_classes} classes: {list(classes.names)}."
                )
            state_dict, num_classes = as_two_classes(state_dict), 2
        if num_classes != classes.num_classes:
            raise InputError(
                f"`classes` must be the {num_classes} classes of the model in {weights}, in the "
                f"order of its output channels. Received {classes.num_classes} classes: "
                f"{list(classes.names)}."
            )
        config = TrainConfig(
            arch=arch,
            encoder=encoder,
            encoder_weights=None,
            preprocessing=preprocessing,
            output_stride=output_stride,
            recipe="imported",
            image_size=image_size,
            framing=framing,
            **(SMP_DEEPLAB if arch == "deeplabv3plus" else {}),
        )
        model = build_model(arch, num_classes, encoder_weights=None, **config.model_options())
        load_torch_state_dict(model, state_dict)
        run = Run(
            path=folder,
            config=config,
            classes=classes,
            fingerprint=None,
            native_size=native_size,
        )
        write_run(run, model.count_params())
        save_weights(model, folder / BEST)
    return dataclasses.replace(run, path=workdir)
