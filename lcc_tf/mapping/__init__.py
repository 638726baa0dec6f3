"""Land-cover maps of scenes, with areas and polygons."""

from lcc_tf.errors import requires

with requires("maps", "Mapping", "pyogrio", "pyproj", "rasterio", "shapely"):
    import pyogrio  # noqa: F401
    import pyproj  # noqa: F401
    import rasterio  # noqa: F401
    import shapely  # noqa: F401
