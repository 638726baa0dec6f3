"""Class probabilities of images of any size."""
