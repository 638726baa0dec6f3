"""Writes land-cover maps of images of any size, such as GeoTIFFs."""

from lcc_tf.cli.predict import main

if __name__ == "__main__":
    main()
