import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.exporting import export_savedmodel, load_original
from lcc_tf.prediction.predictors import load_exported_model, load_scene_model
from lcc_tf.runs import find_runs


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported")
    export_savedmodel(load_original(find_runs(runs), [3, 1]), output)
    return output


@pytest.mark.parametrize("tile", [None, 96])
def test_savedmodel_predicts_tiles_as_its_runs_do(exported, runs, tile):
    ours = load_scene_model(find_runs(runs), [3, 1], tta="flip", tile=tile)
    theirs = load_exported_model(exported, tta="flip", tile=tile)
    assert theirs.classes == ours.classes
    assert theirs.tile == ours.tile
    side = ours.tile
    tiles = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    (received,) = theirs.split(theirs.predict(tiles))
    expected = ours.average(ours.split(ours.predict(tiles)))
    np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.parametrize("tile", [None, 96])
def test_savedmodel_at_a_coarser_resolution_sees_as_much_of_a_scene_as_its_run(
    whole_image_run, tile, tmp_path
):
    export_savedmodel(load_original([whole_image_run]), tmp_path)
    ours = load_scene_model([whole_image_run], tile=tile)
    theirs = load_exported_model(tmp_path, tile=tile)
    assert theirs.tile == ours.tile == (tile or 128)
    tiles = np.random.default_rng(0).integers(0, 256, (1, ours.tile, ours.tile, 3))
    tiles = tiles.astype(np.float32)
    # The SavedModel takes whole numbers, the run what resizing gives.
    np.testing.assert_allclose(theirs.predict(tiles), ours.predict(tiles), atol=5e-3)


def test_folder_that_is_no_savedmodel_of_ours(tmp_path):
    with pytest.raises(InputError, match="no SavedModel that export.py wrote.*model.json"):
        load_exported_model(tmp_path)
