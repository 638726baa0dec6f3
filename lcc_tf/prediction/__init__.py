"""Probabilities of images of any size, from one network or several."""
