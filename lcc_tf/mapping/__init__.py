"""Land-cover maps of scenes, with areas and polygons."""
