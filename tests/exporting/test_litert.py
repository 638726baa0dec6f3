import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from lcc_tf.exporting.agreement import AgreementError
from lcc_tf.exporting.float16_weights import with_float16_weights
from lcc_tf.exporting.litert import export_litert
from lcc_tf.exporting.samples import Samples
from lcc_tf.exporting.source_model import SourceModel
from tfds_deepglobe.classes import ClassTable

FILES = ["float32.tflite", "float16.tflite", "int8.tflite"]


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported")
    return output, export_litert(source, output)


@pytest.fixture(scope="module")
def description(exported):
    return json.loads((exported[0] / "model.json").read_text())


@pytest.mark.parametrize("name", FILES)
def test_file_runs_with_the_types_in_its_description(exported, description, source, name):
    types = description["files"][name]
    runner = Interpreter(str(exported[0] / name)).get_signature_runner("serving_default")
    assert types["image"]["shape"] == [1, 72, 72, 3]
    assert types["probabilities"]["shape"] == [1, 72, 72, 7]
    same = []
    for tile in source.comparison.tiles:
        result = runner(image=tile.astype(types["image"]["dtype"]))["probabilities"]
        expected = source.predict(tile)
        assert result.dtype == types["probabilities"]["dtype"]
        if name == "int8.tflite":
            quantized = types["probabilities"]
            result = (result.astype(float) - quantized["zero_point"]) * quantized["scale"]
            np.testing.assert_allclose(result.sum(-1), 1, atol=0.05)
            np.testing.assert_allclose(result, expected, atol=0.2)
        else:
            np.testing.assert_allclose(result, expected, atol=1e-4)
        same.append(result.argmax(-1) == expected.argmax(-1))
    assert np.mean(same) == pytest.approx(agreement_of(exported, name).fraction, abs=1e-6)
    assert np.mean(same) > (0.9 if name == "int8.tflite" else 0.999)


def agreement_of(exported, name):
    (file,) = (file for file in exported[1] if file.name == name)
    return file.agreement


def test_input_of_the_int8_file_is_uint8_pixels(exported, description):
    assert description["tile"] == 72
    assert description["class_names"][4] == "water"
    image = description["files"]["int8.tflite"]["image"]
    assert (image["dtype"], image["scale"], image["zero_point"]) == ("uint8", 1.0, 0)
    assert description["files"]["int8.tflite"]["probabilities"]["dtype"] == "uint8"
    assert description["files"]["float16.tflite"]["image"] == {
        "dtype": "float32",
        "shape": [1, 72, 72, 3],
    }


class Gray(Samples):
    """Sample images in which all pixels have the same shade of gray."""

    def crops(self, split, side, count):
        assert (split, side, count) in (("train", 32, 32), ("test", 32, 4))
        return [np.full((side, side, 3), 100, np.uint8)] * count


@pytest.fixture(scope="module")
def gray_source():
    """Source model with a single convolution and gray sample images."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, activation="softmax")(image))
    classes = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    return SourceModel(model, classes, tile=32, samples=Gray())


def test_int8_input_range_is_0_to_255_for_gray_samples(gray_source, tmp_path):
    export_litert(gray_source, tmp_path)
    types = json.loads((tmp_path / "model.json").read_text())["files"]["int8.tflite"]["image"]
    assert (types["dtype"], types["scale"], types["zero_point"]) == ("uint8", 1.0, 0)


def test_int8_file_contains_no_floating_point_tensors(exported):
    interpreter = Interpreter(str(exported[0] / "int8.tflite"))
    dtypes = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert dtypes <= {"int8", "uint8", "int32"}


class Converter:
    """Stand-in for TensorFlow's converter that returns the given files, one per call."""

    def __init__(self, *contents):
        self.contents, self.target_spec = list(contents), tf.lite.TargetSpec()

    def convert(self):
        return self.contents.pop(0)


@pytest.mark.parametrize("name", FILES)
def test_file_that_differs_from_the_keras_model_raises(gray_source, monkeypatch, tmp_path, name):
    export_litert(gray_source, tmp_path)
    full, half, int8 = (
        file_of_nan(32) if file == name else (tmp_path / file).read_bytes() for file in FILES
    )
    converter = Converter(full, int8)
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda _: converter)
    monkeypatch.setattr("lcc_tf.exporting.litert.with_float16_weights", lambda _: half)
    with pytest.raises(AgreementError, match=f"{name} differs"):
        export_litert(gray_source, tmp_path)


def file_of_nan(tile):
    """Returns the content of a LiteRT file that predicts NaN for one of two classes."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, tile, tile, 3), tf.float32, name="image")])
        def __call__(self, image):
            zeros = 0 * image[..., :1]
            return {"probabilities": tf.concat([zeros, zeros + float("nan")], axis=-1)}

    module = Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    return converter.convert()


def test_only_large_kernels_are_rounded_to_float16(tmp_path):
    inputs = keras.Input((8, 8, 64), batch_size=1)
    small = keras.layers.Conv2D(64, 1, bias_initializer="glorot_normal", name="small")
    large = keras.layers.Conv2D(64, 3, name="large")
    model = keras.Model(inputs, large(small(inputs)))
    model.export(tmp_path, verbose=False)
    full = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    half = with_float16_weights(full)
    saved = 2 * np.prod(large.kernel.shape)
    assert len(full) - len(half) == pytest.approx(saved, abs=2000)

    image = np.random.default_rng(0).normal(size=(1, 8, 8, 64)).astype(np.float32)
    exact = run(full, image)
    np.testing.assert_allclose(exact, model(image), atol=1e-4)
    large.kernel.assign(large.kernel.numpy().astype(np.float16))
    expected = model(image).numpy()
    assert np.abs(expected - exact).max() > 1e-4
    np.testing.assert_allclose(run(half, image), expected, atol=1e-5)


def run(content, image):
    runner = Interpreter(model_content=content).get_signature_runner()
    (result,) = runner(**{next(iter(runner.get_input_details())): image}).values()
    return result
