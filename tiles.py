"""Cuts scenes and polygons into tiles and masks for training."""

from lcc_tf.cli.tiles import main

if __name__ == "__main__":
    main()
