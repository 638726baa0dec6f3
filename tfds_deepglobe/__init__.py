"""DeepGlobe Land Cover as a TensorFlow Datasets builder.

`python -m tfds_deepglobe --help` shows the command line. `tfds_deepglobe.prepare.prepare` prepares
an archive from Python. Importing this package does not import TensorFlow.
"""
