"""Trained networks, and ensembles of them, for use without this package."""
