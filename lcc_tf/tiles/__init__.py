"""Training images and masks from scenes and polygons."""
