"""Scores trained runs, and the ensemble of these runs, on one split of a data set."""

from lcc_tf.cli.evaluate import main

if __name__ == "__main__":
    main()
