"""From TFRecords to batches, and procedural scenes for those without the data set."""
