import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.layouts import recognize_layout
from tfds_deepglobe.pairing import pair_files
from tfds_deepglobe.sources import File


def found_in(*names):
    """Returns the recognized patterns and the ids of the pairs."""
    files = [File(name, 1) for name in names]
    names = recognize_layout(files)
    if names is None:
        return None
    pairing = pair_files(files, names, root="")
    assert pairing.faults == ()
    return str(names.images), str(names.masks), [pair.id for pair in pairing.pairs]


def both(*paths):
    """Replaces `{a|b}` in paths by the text of the image and by the text of the mask."""
    names = []
    for path in paths:
        before, _, rest = path.partition("{")
        image, _, rest = rest.partition("|")
        mask, _, after = rest.partition("}")
        after_image, _, after_mask = after.partition("|")
        names += [before + image + after_image, before + mask + (after_mask or after_image)]
    return names


@pytest.mark.parametrize(
    ("names", "images", "masks", "ids"),
    [
        pytest.param(
            both("Tile 1/{images|masks}/part_1.jpg|/part_1.png")
            + both("Tile 2/{images|masks}/part_1.jpg|/part_1.png"),
            "images/*.jpg",
            "masks/*.png",
            ["Tile 1/part_1", "Tile 2/part_1"],
            id="Dubai",
        ),
        pytest.param(
            both(
                "Train/Urban/{images_png|masks_png}/0.png",
                "Train/Rural/{images_png|masks_png}/9.png",
            ),
            "images_png/*.png",
            "masks_png/*.png",
            ["0", "9"],
            id="LoveDA",
        ),
        pytest.param(
            both("{images|masks}/M-33-7.tif", "{images|masks}/N-34-1.tif"),
            "images/*.tif",
            "masks/*.tif",
            ["M-33-7", "N-34-1"],
            id="LandCover.ai",
        ),
        pytest.param(
            both("aachen/{images|labels}/aachen_1.tif", "accra/{images|labels}/accra_1.tif"),
            "images/*.tif",
            "labels/*.tif",
            ["aachen_1", "accra_1"],
            id="OpenEarthMap",
        ),
        pytest.param(
            ["2_Ortho_RGB/top_2_10_RGB.tif", "5_Labels_all/top_2_10_label.tif"],
            "*_RGB.tif",
            "*_label.tif",
            ["top_2_10"],
            id="ISPRS Potsdam",
        ),
        pytest.param(
            ["D004/Z1/img/IMG_061946.tif", "D004/Z1/msk/MSK_061946.tif"],
            "img/IMG_*.tif",
            "msk/MSK_*.tif",
            ["061946"],
            id="FLAIR",
        ),
        pytest.param(
            both("train/{images|gt}/austin1.tif") + ["test/images/bellingham1.tif"],
            "images/*.tif",
            "gt/*.tif",
            ["austin1"],
            id="Inria",
        ),
        pytest.param(
            ["JPEGImages/7.jpg", "SegmentationClass/7.png", "labelmap.txt"],
            "JPEGImages/*.jpg",
            "SegmentationClass/*.png",
            ["7"],
            id="CVAT, Pascal VOC",
        ),
        pytest.param(
            ["7.jpg", "7_mask.png", "8.jpg", "8_mask.png"],
            "*.jpg",
            "*_mask.png",
            ["7", "8"],
            id="one folder",
        ),
        pytest.param(
            ["7.png", "7_gt.png", "8.png", "8_gt.png"],
            "*.png",
            "*_gt.png",
            ["7", "8"],
            id="one folder and format",
        ),
        pytest.param(
            both("TRAIN/{Images|Labels}/7.TIF", "VAL/{Images|Labels}/7.TIF"),
            "Images/*.tif",
            "Labels/*.tif",
            ["TRAIN/7", "VAL/7"],
            id="upper case",
        ),
        pytest.param(
            both(
                "train/{image|label}/7.png", "valid/{image|label}/8.png", "test/{image|label}/9.png"
            ),
            "image/*.png",
            "label/*.png",
            ["7", "8", "9"],
            id="folders of splits",
        ),
        pytest.param(
            both("{images|annotations}/7_rgb.tif|/7_seg.png"),
            "images/*_rgb.tif",
            "annotations/*_seg.png",
            ["7"],
            id="folders and suffixes",
        ),
        pytest.param(
            both("a/b/c/{imgs|ground_truth}/7.jpeg|/7.bmp") + ["a/preview/7.jpeg"],
            "imgs/*.jpeg",
            "ground_truth/*.bmp",
            ["7"],
            id="other pictures",
        ),
        pytest.param(
            both("{images|masks}/7.jpg|/7.png", "{images|masks}/8_rgb.jpg|/8_rgb.png"),
            "images/*.jpg",
            "masks/*.png",
            ["7", "8_rgb"],
            id="some names with a suffix",
        ),
        pytest.param(
            ["sat/img_7.png", "seg/label_7.png"],
            "sat/img_*.png",
            "seg/label_*.png",
            ["7"],
            id="folders and prefixes",
        ),
    ],
)
def test_usual_layouts_are_recognized(names, images, masks, ids):
    assert found_in(*names) == (images, masks, ids)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["7.jpg", "8.jpg"],
        ["images/7.jpg", "masks/8.png"],
        ["images/7.jpg", "masks/7.jpg"],  # JPEG changes the colors of masks
        ["a/7.tif", "b/7.tif"],
        ["images/7.jpg", "annotations/7.json"],
    ],
)
def test_other_layouts_are_not_recognized(names):
    assert found_in(*names) is None


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (["images/7.jpg", "masks/7.png", "labels/7.png"], ("masks/*.png", "labels/*.png")),
        (
            ["images/7.jpg", "masks/7.png", "images/8.tif", "masks/8.tif"],
            ("images/*.jpg with", "images/*.tif with"),
        ),
        (
            ["images/7.jpg", "images/8.jpg", "masks/7.png", "masks/8.png", "labels/8.png"],
            ("masks/*.png", "labels/*.png"),
        ),
    ],
)
def test_several_possible_layouts_raise(names, texts):
    with pytest.raises(InputError, match="Choose one with `image_glob`") as error:
        recognize_layout([File(name, 1) for name in names])
    for text in texts:
        assert text in str(error.value)
