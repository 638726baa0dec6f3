import pytest

from tfds_deepglobe.archive import open_archive
from tfds_deepglobe.errors import InputError


def archive_of(folder, names):
    """Opens a folder of empty files, whose contents are not read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return open_archive(folder)


def both(*paths):
    """Returns two paths per path: `{a|b}` is `a` for the image, and `b` for the mask."""
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
            )
            + ["Test/Urban/images_png/5.png"],
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
            "*_Ortho_*/*_RGB.tif",
            "*_Labels_*/*_label.tif",
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
            ["JPEGImages/7.jpg", "SegmentationClass/7.png", "ImageSets/default.txt"],
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
            "imgs/*.jpg",
            "*_truth/*.bmp",
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
            ["train/7_sat.jpg", "train/7_mask.png", "valid/8_sat.jpg", "test/9_sat.jpg"],
            "*_sat.jpg",
            "*_mask.png",
            ["7"],
            id="DeepGlobe",
        ),
        pytest.param(
            both("{images|annotations}/training/7.jpg|/training/7.png"),
            "images/*/*.jpg",
            "annotations/*/*.png",
            ["7"],
            id="ADE20K",
        ),
        pytest.param(
            both("{images|masks}/train/7.png", "{images|masks}/val/7.png"),
            "images/*/*.png",
            "masks/*/*.png",
            ["train/7", "val/7"],
            id="folders of splits inside",
        ),
        pytest.param(
            both("{img|ann}_dir/train/7.png"),
            "img_*/*/*.png",
            "ann_*/*/*.png",
            ["7"],
            id="MMSegmentation",
        ),
        pytest.param(
            both("uavid_train/seq1/{Images|Labels}/0.png") + ["uavid_test/seq21/Images/0.png"],
            "Images/*.png",
            "Labels/*.png",
            ["0"],
            id="UAVid",
        ),
        pytest.param(
            both("ds/{img|masks_machine}/7.jpg|/7.jpg.png") + ["ds/ann/7.jpg.json", "meta.json"],
            "img/*.jpg",
            "masks_*/*.jpg.png",
            ["7"],
            id="Supervisely",
        ),
        pytest.param(
            ["JPEGImages/7.jpg", "SegmentationClass/7.png", "SegmentationObject/7.png"],
            "JPEGImages/*.jpg",
            "SegmentationClass/*.png",
            ["7"],
            id="Pascal VOC with objects",
        ),
        pytest.param(
            ["original_images/7.jpg", "label_images_semantic/7.png"],
            "*_images/*.jpg",
            "label_*/*.png",
            ["7"],
            id="Semantic Drone Dataset",
        ),
        pytest.param(
            ["top/top_area1.tif", "gts_for_participants/top_area1.tif"],
            "*.tif",
            "gts_*/*.tif",
            ["top_area1"],
            id="ISPRS Vaihingen",
        ),
        pytest.param(
            both(
                "{train_images|train_masks}/7.jpg|/7.png", "{test_images|test_masks}/7.jpg|/7.png"
            ),
            "*_images/*.jpg",
            "*_masks/*.png",
            ["test_images/7", "train_images/7"],
            id="Kaggle, train_images",
        ),
        pytest.param(
            both(
                "train_aerial/D1/{img|msk}/IMG_7.tif|/MSK_7.tif",
                "train_aerial/D2/{img|msk}/IMG_7.tif|/MSK_7.tif",
            ),
            "img/IMG_*.tif",
            "msk/MSK_*.tif",
            ["D1/7", "D2/7"],
            id="FLAIR, several zones",
        ),
        pytest.param(
            ["0-image.png", "0-mask.png"], "*-image.png", "*-mask.png", ["0"], id="hyphens"
        ),
        pytest.param(
            both("{images|masks}/7.jpg|/7.png", "{images|masks}/8.JPEG|/8.png"),
            "images/*.jpg",
            "masks/*.png",
            ["7", "8"],
            id="two extensions of a format",
        ),
        pytest.param(
            both("{images|masks}/7.png") + ["predictions/7_mask.png", "previews/7_sat.jpg"],
            "images/*.png",
            "masks/*.png",
            ["7"],
            id="predictions with names of masks",
        ),
        pytest.param(
            both("{images|masks}/7.png|/7_mask.png", "{images|masks}/8.png|/8_mask.png"),
            "images/*.png",
            "masks/*_mask.png",
            ["7", "8"],
            id="folders and a suffix of masks",
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
def test_usual_layouts_are_recognized(tmp_path, names, images, masks, ids):
    archive = archive_of(tmp_path, names)
    assert archive.faults == ()
    assert (str(archive.names.images), str(archive.names.masks)) == (images, masks)
    assert [pair.id for pair in archive.pairs] == ids


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="no files"),
        pytest.param(["7.jpg", "8.jpg"], id="no masks"),
        pytest.param(["images/7.jpg", "masks/8.png"], id="other ids"),
        pytest.param(["a/7.tif", "b/7.tif"], id="folders without words"),
        pytest.param(["images/7.jpg", "annotations/7.json"], id="polygons"),
        pytest.param(["AOI_2/PS-RGB/img_7.tif", "AOI_2/geojson/7.geojson"], id="SpaceNet"),
        pytest.param(
            ["images/P0.png", "Semantic_masks/images/P0_instance_color_RGB.png"], id="iSAID"
        ),
        pytest.param(["SegmentationClass/7.png", "SegmentationObject/7.png"], id="VOC, no images"),
        pytest.param(["images/7.jpg", "overlays/7.png"], id="overlays"),
    ],
)
def test_other_layouts_are_asked_for(tmp_path, names):
    with pytest.raises(InputError, match="No image with a mask.*found") as error:
        archive_of(tmp_path, names)
    for name in names[:1]:
        assert name in str(error.value)
    assert not names or "`image_glob" in str(error.value)


@pytest.mark.parametrize("names", [["images/7.jpg", "masks/7.jpg"], ["7.jpg", "7_mask.jpg"]])
def test_jpeg_masks_raise(tmp_path, names):
    with pytest.raises(InputError, match="must not match JPEG files"):
        archive_of(tmp_path, names)


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (["images/7.jpg", "masks/7.png", "labels/7.png"], ("masks/*.png", "labels/*.png")),
        (
            ["images/7.jpg", "images/8.jpg", "masks/7.png", "masks/8.png", "labels/8.png"],
            ("masks/*.png` (2 pairs)", "labels/*.png` (1 pairs)"),
        ),
    ],
)
def test_several_possible_layouts_raise(tmp_path, names, texts):
    with pytest.raises(InputError, match="Choose one with `image_glob`") as error:
        archive_of(tmp_path, names)
    for text in texts:
        assert text in str(error.value)


def test_several_formats_raise(tmp_path):
    names = ["images/7.jpg", "masks/7.png", "images/8.tif", "masks/8.png"]
    with pytest.raises(InputError, match="several formats: .*images/.*.jpg.*Convert them to one"):
        archive_of(tmp_path, names)
