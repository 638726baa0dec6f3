"""Makes a run folder of a UNet++ or DeepLabV3+ that segmentation_models_pytorch trained."""

from lcc_tf.cli.import_torch import main

if __name__ == "__main__":
    main()
