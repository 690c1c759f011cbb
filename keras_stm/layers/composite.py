"""Layers that consist of other layers."""

import keras

from keras_stm import keras_compat


class Composite(keras.layers.Layer):
    """Base class of layers that own layers: a frozen layer stays frozen in files and copies.

    Keras sets `trainable` before a subclass makes its layers, so that these would be trainable again in a
    block that was loaded.

    Args:
        frozen: paths of the layers below this one that are not trainable, such as `"cmm"` or
            `"cmm/reduce_bn"`. They are part of the configuration.
    """

    def __init__(self, frozen=(), **kwargs):
        super().__init__(**kwargs)
        self._frozen = tuple(frozen)
        # `torch.compile` fails on Keras's training step of these layers, or takes minutes for each new size.
        # With this attribute, Keras warns in one line and goes on without it.
        self.supports_jit = keras.backend.backend() != "torch"

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if isinstance(value, keras.layers.Layer):
            if self.trainable:
                _freeze([value], self._frozen)
            else:
                value.trainable = False

    def get_config(self):
        frozen = list(_find_frozen(keras_compat.children(self))) if self.trainable else []
        return {**super().get_config(), **({"frozen": frozen} if frozen else {})}


def _freeze(layers, paths):
    for layer in layers:
        if layer.name in paths:
            layer.trainable = False
        else:
            start = f"{layer.name}/"
            below = [path.removeprefix(start) for path in paths if path.startswith(start)]
            _freeze(keras_compat.children(layer), below)


def _find_frozen(layers):
    for layer in layers:
        if not layer.trainable:
            yield layer.name
        else:
            yield from (f"{layer.name}/{path}" for path in _find_frozen(keras_compat.children(layer)))
