"""List of a model's layers, including the layers of nested models."""

from collections.abc import Iterable, Iterator

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model, its layers and the layers of its nested models.

    Run folders depend on the order, because `RunRecorder` seeds dropout with a layer's position.
    """
    return [model, *_with_nested(model.layers)]


def _with_nested(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _with_nested(reversed(layer.layers))
