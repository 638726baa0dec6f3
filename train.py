"""Trains one segmentation network on DeepGlobe, on your own images, or on synthetic images."""

from lcc_tf.cli.train import main

if __name__ == "__main__":
    main()
