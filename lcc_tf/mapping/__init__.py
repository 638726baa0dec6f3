"""Land-cover maps of scenes, with areas and polygons."""

from lcc_tf.errors import require_extra

require_extra("maps")
