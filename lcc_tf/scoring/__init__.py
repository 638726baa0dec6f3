"""Scores of networks and ensembles according to published protocols."""
