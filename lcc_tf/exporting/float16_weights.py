"""Storage of large weight tensors as float16 in a LiteRT file."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Minimum number of values in a tensor that is stored as float16. Smaller tensors remain float32.
# These are biases, depthwise kernels and the kernels of the first layers. They contain less than a
# tenth of the weights, but their rounding errors would affect every pixel. The float16 option of
# TensorFlow's converter also rounds the small tensors. With this option, the maximum difference
# from the probabilities of the Keras model is ten times as large.
MIN_VALUES = 2**15
_FILE_IDENTIFIER = b"TFL3"  # identifier of LiteRT files


def with_float16_weights(model: bytes) -> bytes:
    """Stores large weights as float16, and adds operations that convert them to float32.

    Args:
        model: content of a LiteRT file with float32 weights.

    Returns:
        Content of a LiteRT file with rounded weights. Its model computes in float32.
    """
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    content.operatorCodes.append(_dequantize_code())
    opcode = len(content.operatorCodes) - 1
    for graph in content.subgraphs:
        added = []
        for index, tensor in enumerate(list(graph.tensors)):
            data = content.buffers[tensor.buffer].data
            is_float = tensor.type == schema.TensorType.FLOAT32
            if not is_float or data is None or len(data) < 4 * MIN_VALUES:
                continue
            rounded = np.frombuffer(bytes(data), np.float32).astype(np.float16)
            content.buffers.append(schema.BufferT(data=np.frombuffer(rounded.tobytes(), np.uint8)))
            graph.tensors.append(_float16_tensor(tensor, len(content.buffers) - 1))
            tensor.buffer = 0  # buffer 0 is empty; the tensor is now the output of an operation
            added.append(_dequantize(opcode, len(graph.tensors) - 1, index))
        graph.operators = added + graph.operators
    _drop_unused_buffers(content)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _dequantize_code() -> schema.OperatorCodeT:
    code = schema.BuiltinOperator.DEQUANTIZE
    return schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=3)


def _float16_tensor(tensor: schema.TensorT, buffer: int) -> schema.TensorT:
    return schema.TensorT(
        name=tensor.name + b"_float16",
        shape=tensor.shape,
        type=schema.TensorType.FLOAT16,
        buffer=buffer,
        hasRank=True,
    )


def _dequantize(opcode: int, source: int, target: int) -> schema.OperatorT:
    return schema.OperatorT(
        opcodeIndex=opcode,
        inputs=np.array([source], np.int32),
        outputs=np.array([target], np.int32),
        builtinOptionsType=schema.BuiltinOptions.DequantizeOptions,
        builtinOptions=schema.DequantizeOptionsT(),
    )


def _drop_unused_buffers(content: schema.ModelT) -> None:
    """Deletes the content of buffers that no tensor uses; the indices of buffers do not change."""
    used = {tensor.buffer for graph in content.subgraphs for tensor in graph.tensors}
    used |= {metadata.buffer for metadata in content.metadata or []}
    for index, buffer in enumerate(content.buffers):
        if index not in used:
            buffer.data = None
