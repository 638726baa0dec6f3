"""Trains one segmentation network on the DeepGlobe archive, your own or procedural scenes."""

from lcc_tf.cli.train import main

if __name__ == "__main__":
    main()
