import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx

from lcc_tf.exporting.agreement import AgreementError
from lcc_tf.exporting.onnx import export_onnx

SIZES = [(64, 64), (57, 97), (1, 5), (130, 33)]  # height and width, pixels


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported")
    return output, export_onnx(source, output)


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(exported[0] / "model.onnx")


@pytest.mark.parametrize("size", SIZES)
def test_file_accepts_images_of_any_size(session, source, size):
    image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    names = [output.name for output in session.get_outputs()]
    named = dict(zip(names, session.run(names, {"image": image}), strict=True))
    expected = source.serve(image).numpy()
    assert named["probabilities"].shape == (2, *size, 7)
    np.testing.assert_allclose(named["probabilities"], expected, atol=1e-5)
    assert named["class_id"].dtype == np.uint8
    np.testing.assert_array_equal(named["class_id"], named["probabilities"].argmax(-1))


def test_file_has_the_documented_types_axes_and_opset(session, exported):
    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("image", "tensor(uint8)")
    assert image.shape == ["batch", "height", "width", 3]
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes == {
        "class_id": ["batch", "height", "width"],
        "probabilities": ["batch", "height", "width", 7],
    }
    for name in ("model.onnx", "deepness.onnx"):
        model = onnx.load(exported[0] / name)
        assert {opset.domain: opset.version for opset in model.opset_import}[""] == 17
    kinds = [node.op_type for node in onnx.load(exported[0] / "model.onnx").graph.node]
    assert "SpaceToDepth" not in kinds  # without `dilation.py`, the file contains it
    table = session.get_modelmeta().custom_metadata_map
    assert json.loads(table["class_names"])[4] == "water"
    assert json.loads(table["palette"])[4] == [0, 0, 255]


def test_deepness_can_use_the_file(exported, source):
    """The test reads the file in the same way as Deepness.

    See the classes `ModelBase` and `Segmentor` of
    https://github.com/PUTvision/qgis-plugin-deepness.
    """
    session = onnxruntime.InferenceSession(exported[0] / "deepness.onnx")
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert image.shape == ["batch", 3, 72, 72]
    assert output.shape == ["batch", 7, 72, 72]
    metadata = {
        key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
    assert metadata.pop("class_names") == {
        str(index): name for index, name in enumerate(source.classes.names)
    }
    mean, std = metadata.pop("standardization_mean"), metadata.pop("standardization_std")
    assert metadata == {
        "model_type": "Segmentor",
        "resolution": 50.0,
        "tiles_size": 72,
        "tile_size": 72,
        "tiles_overlap": 25,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    tiles = np.concatenate(source.comparison.tiles)
    prepared = (np.float32(tiles / 255.0) - np.float32(mean)) / np.float32(std)
    result = session.run(None, {image.name: prepared.transpose(0, 3, 1, 2)})[0]
    expected = np.concatenate([source.predict(tile) for tile in source.comparison.tiles])
    np.testing.assert_allclose(result, expected.transpose(0, 3, 1, 2), atol=1e-4)


def test_both_files_agree_with_the_keras_model(exported):
    assert [file.name for file in exported[1]] == ["model.onnx", "deepness.onnx"]
    for file in exported[1]:
        assert file.agreement.fraction == 1
        assert file.agreement.max_difference < 1e-4
    assert exported[1][0].agreement.num_pixels == 4 * 72**2 + 57 * 97
    assert exported[1][1].agreement.num_pixels == 4 * 72**2


@pytest.mark.parametrize(("broken", "num_written"), [("model.onnx", 1), ("deepness.onnx", 2)])
def test_file_that_differs_from_the_keras_model_raises(
    exported, source, monkeypatch, tmp_path, broken, num_written
):
    """A stand-in for the converter returns correct files, except one file with wrong weights."""

    def convert(serve, inputs, opset):
        name = "model.onnx" if inputs[0].dtype == tf.uint8 else "deepness.onnx"
        model = onnx.load(exported[0] / name)
        if name == broken:
            halve_weights(model)
        return model, None

    monkeypatch.setattr(tf2onnx.convert, "from_function", convert)
    with pytest.raises(AgreementError, match=f"{broken} differs"):
        export_onnx(source, tmp_path)
    assert len(list(tmp_path.iterdir())) == num_written


def halve_weights(model):
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values / 2, tensor.name))
