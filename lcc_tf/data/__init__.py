"""Batches from TFRecords, and procedural scenes for a first try without a download."""
