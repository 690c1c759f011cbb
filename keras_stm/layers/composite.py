"""Layers that consist of other layers."""

import keras

from keras_stm import keras_compat


class Composite(keras.layers.Layer):
    """Base class of layers that own layers: what is frozen or thawed in them stays so in files and copies.

    Keras sets `trainable` before a subclass makes its layers, so that these would be trainable again in a
    block that was loaded.

    Args:
        exceptions: paths of the layers below this one whose `trainable` differs from that of the layer they
            belong to, such as `"cmm"` or `"cmm/reduce_bn"`. They are part of the configuration.
    """

    def __init__(self, exceptions=(), **kwargs):
        super().__init__(**kwargs)
        self._exceptions = tuple(exceptions)
        # `torch.compile` fails on Keras's training step of these layers, or takes minutes for each new size.
        # With this attribute, Keras warns in one line and goes on without it.
        self.supports_jit = keras.backend.backend() != "torch"

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if isinstance(value, keras.layers.Layer):
            value.trainable = self.trainable
            _except([value], self._exceptions)

    def get_config(self):
        exceptions = list(_find_exceptions(self))
        return {**super().get_config(), **({"exceptions": exceptions} if exceptions else {})}


def _except(layers, paths):
    for layer in layers:
        if layer.name in paths:
            layer.trainable = not layer.trainable
        start = f"{layer.name}/"
        below = [path.removeprefix(start) for path in paths if path.startswith(start)]
        _except(keras_compat.children(layer), below)


def _find_exceptions(owner):
    for layer in keras_compat.children(owner):
        if layer.trainable != owner.trainable:
            yield layer.name
        yield from (f"{layer.name}/{path}" for path in _find_exceptions(layer))
