"""Scores of networks and their ensembles by published protocols."""
