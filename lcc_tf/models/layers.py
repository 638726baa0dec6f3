"""List of a model's layers, including the layers of nested models."""

from collections.abc import Iterable, Iterator

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model, its layers and the layers of its nested models.

    The order must not change. `RunRecorder` derives the random seed of a dropout layer from the
    position of the layer in this list. With another order, a resumed run would train differently.
    """
    return [model, *_with_nested(model.layers)]


def _with_nested(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _with_nested(reversed(layer.layers))
