"""Batches from TFRecords, and procedural scenes for a first try without a download.

Procedural scenes are synthetic images, drawn by this program, with exact masks.
"""
