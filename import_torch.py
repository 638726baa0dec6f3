"""Converts a UNet++ or DeepLabV3+ of segmentation_models_pytorch to a run folder."""

from lcc_tf.cli.import_torch import main

if __name__ == "__main__":
    main()
