"""Words in the names of folders and files of data sets, such as "images" and "masks"."""

import re
import unicodedata

IMAGE_WORDS = frozenset(
    ("images", "image", "imgs", "img", "sat", "rgb", "jpegimages", "imagery", "tiles", "ortho")
)
MASK_WORDS = frozenset(
    (
        *("masks", "mask", "msk", "labels", "label", "annotations", "annotation", "anns", "ann"),
        *(
            "gt",
            "gts",
            "groundtruth",
            "truth",
            "segmentationclass",
            "segmentation",
            "seg",
            "targets",
        ),
        *("target",),
    )
)
# Folders with these words contain neither images nor masks for training.
OTHER_WORDS = frozenset(
    (
        *("overlays", "overlay", "previews", "preview", "quicklooks", "quicklook", "thumbs"),
        *("thumbnails", "predictions", "prediction", "preds", "pred", "segmentationobject"),
        *("instances", "instance", "visualizations", "visualization", "vis", "edges", "edge"),
        *("boundaries", "boundary", "contours", "depth"),
    )
)
# Key: word in the name of a folder. Value: name of the split in the folder.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def folded(text: str) -> str:
    """Returns a text in lower case and in Unicode form NFC, for comparisons."""
    return unicodedata.normalize("NFC", text).lower()


def words_of(name: str) -> list[str]:
    """Returns the words of a name in lower case.

    Example:
        >>> words_of("2_Ortho_RGB")
        ['ortho', 'rgb']
    """
    return re.findall(r"[^\W\d_]+", folded(name))


def without_kinds(path: str) -> str:
    """Removes the words of images and masks from a path.

    An image and its mask are often in folders that differ only in these words.

    Example:
        >>> without_kinds("train_images/7"), without_kinds("train_masks/7")
        ('train_/7', 'train_/7')
    """
    kinds = IMAGE_WORDS | MASK_WORDS
    return re.sub(r"[^\W\d_]+", lambda word: "" if word[0] in kinds else word[0], folded(path))


def split_of_folder(path: str) -> str | None:
    """Returns the name of the split in a path; None if no folder has the name of a split.

    A folder has the name of a split if the folder contains words of exactly one split. The split
    is the split of the outermost folder with such a name.

    Example:
        >>> [split_of_folder(path) for path in ("Data/Train/Urban", "test_images", "Tile 1")]
        ['train', 'test', None]
    """
    for folder in path.split("/"):
        splits = {SPLIT_WORDS[word] for word in words_of(folder) if word in SPLIT_WORDS}
        if len(splits) == 1:
            return splits.pop()
    return None
