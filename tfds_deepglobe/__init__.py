"""DeepGlobe Land Cover as a TensorFlow Datasets builder.

`python -m tfds_deepglobe --help` describes the commands. In Python, use
`tfds_deepglobe.prepare.prepare`. Importing this package does not import TensorFlow.
"""
