"""Report about tiles: sizes, classes, and problems of the polygons."""

import numpy as np

from lcc_tf.tiles.cutting import RARE_FRACTION, TileReport
from lcc_tf.tiles.labels import Labels
from tfds_deepglobe.errors import listed


def report_lines(report: TileReport, labels: Labels) -> list[str]:
    """Formats a report, one line per fact.

    Args:
        report: result of `cut_scenes`.
        labels: labels of the scenes.

    Returns:
        The lines. Lines about possible mistakes begin with "warning: ".
    """
    total = int(report.pixels.sum())
    empty = f"; skipped {report.num_empty} tiles without labels" * bool(report.num_empty)
    lines = [
        f"{report.num_tiles} tiles in {len(report.blocks)} blocks of ground{empty}",
        f"{total / max(1, total + report.num_void):.1%} of the pixels of these tiles are labelled",
    ]
    for class_id, (name, count) in enumerate(zip(labels.names, report.pixels, strict=True)):
        lines.append(f"{class_id:3d}  {name:20s} {count / max(1, total):8.3%} of labelled pixels")
    rare = [
        name
        for name, count in zip(labels.names, report.pixels, strict=True)
        if count < RARE_FRACTION * total
    ]
    if rare:
        lines.append(
            f"warning: {len(rare)} classes have less than {RARE_FRACTION:.1%} of the labelled "
            f"pixels: {listed(rare, 10)}"
        )
    if report.num_masked:
        lines.append(
            f"the transparency band of {report.num_masked} scenes was removed; the transparent "
            "pixels are void"
        )
    if report.marked:
        names = [str(scene) for scene in report.marked]
        lines.append(
            "warning: a band is marked as transparency, but its values are not a mask: "
            f"{listed(names)}. Therefore this band is written to the tiles. If it is a mask with "
            "soft edges, its transparent pixels are labelled by mistake. Then convert the scenes, "
            "for example with `gdal_translate -b 1 -b 2 -b 3 -a_nodata 0 SCENE converted.tif`"
        )
    if report.num_removed:
        lines.append(
            f"removed the labels of {report.num_removed} pixels, because an earlier scene shows "
            "the same ground in another block"
        )
    if labels.num_overlapping:
        lines.append(
            f"warning: polygons of different classes overlap on {labels.num_overlapping} pixels; "
            "these pixels have the class of the last polygon in the file"
        )
    if labels.num_without_class:
        lines.append(
            f"warning: {labels.num_without_class} polygons have no value of {labels.column}; the "
            "pixels in these polygons are void"
        )
    if unused := np.flatnonzero(~labels.is_used).tolist():
        lines.append(
            f"warning: {len(unused)} of {len(labels.is_used)} polygons contain no pixel of a "
            f"scene, such as polygon number {unused[0] + 1} in the file"
        )
    if report.unlabeled:
        names = [str(scene) for scene in report.unlabeled]
        lines.append(f"warning: {len(names)} scenes have no labelled pixel: {listed(names)}")
    if 1 <= len(report.blocks) < 3:
        lines.append(
            f"warning: a random split needs 3 blocks of ground or more. Received: "
            f"{len(report.blocks)}. Use smaller blocks (`block_tiles`), or smaller tiles "
            "(`tile_size`)"
        )
    return lines
