"""Scores trained runs and their ensemble on a split of the data set."""

from lcc_tf.cli.evaluate import main

if __name__ == "__main__":
    main()
