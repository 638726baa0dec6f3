"""Batches from TFRecords, and procedural scenes for a start without a data set."""
