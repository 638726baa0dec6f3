"""Scores of networks and their ensemble, by published protocols."""
