"""DeepGlobe Land Cover as a TensorFlow Datasets builder.

`python -m tfds_deepglobe --help` prepares and checks a raw archive from the command line,
`tfds_deepglobe.prepare.prepare` does so from Python. Importing the package itself is cheap: it
loads no TensorFlow.
"""
