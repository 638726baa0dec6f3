"""Exports a run, or the ensemble of several runs, for use without this package."""

from lcc_tf.cli.export import main

if __name__ == "__main__":
    main()
