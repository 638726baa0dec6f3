import pytest
import tensorflow as tf

from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.models import DeepLabV3Plus, UNetPlusPlus


@pytest.mark.parametrize("network", [UNetPlusPlus, DeepLabV3Plus])
def test_dilated_convolution_is_a_single_operation(network, tiny_encoder):
    model = network(7, encoder=tiny_encoder, encoder_weights=None)
    converted = with_single_operations(model)
    if network is UNetPlusPlus:
        assert converted is model
        return
    assert {id(v) for v in converted.variables} == {id(v) for v in model.variables}
    for shape in ((None, None, None, 3), (1, 64, 64, 3)):
        counts = []
        for each in (model, converted):
            graph = tf.function(each).get_concrete_function(tf.TensorSpec(shape)).graph
            counts.append([operation.type for operation in graph.get_operations()])
        before, after = counts
        assert "SpaceToBatchND" in before or shape[1]
        assert "SpaceToBatchND" not in after
        assert len(after) < len(before)
        # Three operations are branches of ASPP, and two are in the last stage of the tiny encoder.
        assert sum("DepthwiseConv2dNative" in kind for kind in after) == 5
