"""Exports a run, or the ensemble of several runs, to a model that does not need this package."""

from lcc_tf.cli.export import main

if __name__ == "__main__":
    main()
