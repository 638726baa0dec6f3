"""Scoring of networks and ensembles with published protocols."""
