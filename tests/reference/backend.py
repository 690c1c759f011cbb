"""Helpers of the tests for the backend that they run under."""

import functools

import keras
import numpy as np

BACKEND = keras.backend.backend()
# The next backend reads the files of this one. In the tests of all three, each backend writes and reads once.
_CIRCLE = ("tensorflow", "jax", "torch")
NEXT_BACKEND = _CIRCLE[(_CIRCLE.index(BACKEND) + 1) % len(_CIRCLE)]
DATA_FORMATS = ("channels_last", "channels_first")


def run(function, *inputs):
    """Calls `function` on arrays as tensors of the backend.

    Under JAX, the whole function is compiled. Eagerly, JAX would compile each operation, which takes seconds
    for each new shape.
    """
    if BACKEND == "jax":
        import jax

        function = jax.jit(function)
    return function(*(keras.ops.convert_to_tensor(each) for each in inputs))


def compute(layer, clip):
    """Returns the output of a layer or model in inference, as a tensor."""
    if BACKEND != "jax":
        return layer(clip)
    values = [variable.value for variable in layer.variables]
    return _compiled(layer)(keras.ops.convert_to_tensor(clip), *values)


def computed_shape(layer, clip):
    """Returns the shape of the output of `compute`, without compilation."""
    if BACKEND != "jax":
        return tuple(layer(clip).shape)
    return tuple(_compiled(layer).eval_shape(clip, *(variable.value for variable in layer.variables)).shape)


@functools.lru_cache(16)
def _compiled(layer):
    """Returns the layer as a function that is compiled once for all clips of one shape."""
    import jax

    def call(clip, *values):
        # `stateless_call` skips a part of `__call__`: the cast to the policy's dtype.
        with keras.StatelessScope(list(zip(layer.variables, values, strict=True))):
            return layer(clip)

    return jax.jit(call)


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def oriented(clip, data_format):
    """Returns a clip `(batch, time, height, width, channels)` in `data_format`."""
    return clip if data_format == "channels_last" else np.moveaxis(clip, -1, 2)


def channels_last(clip, data_format):
    """Reverts `oriented`."""
    return clip if data_format == "channels_last" else np.moveaxis(clip, 2, -1)


def relative_error(actual, expected):
    """Returns the largest difference divided by the largest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
