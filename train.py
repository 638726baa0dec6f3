"""Trains one segmentation network on DeepGlobe, on your own images or on procedural scenes."""

from lcc_tf.cli.train import main

if __name__ == "__main__":
    main()
