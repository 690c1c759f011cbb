"""What the tests need to know of the backend that they run under."""

import functools

import keras
import numpy as np

BACKEND = keras.backend.backend()
# Who reads what this one writes: in a circle, each is written and read once by the tests of all three.
_CIRCLE = ("tensorflow", "jax", "torch")
NEXT_BACKEND = _CIRCLE[(_CIRCLE.index(BACKEND) + 1) % len(_CIRCLE)]
DATA_FORMATS = ("channels_last", "channels_first")


def run(function, *inputs):
    """`function` of arrays, as it is run by the backend.

    JAX compiles op by op when it runs eagerly, which takes seconds for each new shape: there the
    whole function is compiled at once.
    """
    if BACKEND == "jax":
        import jax

        function = jax.jit(function)
    return function(*(keras.ops.convert_to_tensor(each) for each in inputs))


def compute(layer, clip):
    """Output of a layer or model in inference, as a tensor."""
    if BACKEND != "jax":
        return layer(clip)
    values = [variable.value for variable in layer.variables]
    return _compiled(layer)(keras.ops.convert_to_tensor(clip), *values)


def computed_shape(layer, clip):
    """Shape of what `compute` gives, without compiling it."""
    if BACKEND != "jax":
        return tuple(layer(clip).shape)
    return tuple(_compiled(layer).eval_shape(clip, *(variable.value for variable in layer.variables)).shape)


@functools.lru_cache(16)
def _compiled(layer):
    """Compiled once for all clips of one shape."""
    import jax

    def call(clip, *values):
        # Not `stateless_call`, which leaves out what `__call__` does: casting to the policy's dtype.
        with keras.StatelessScope(list(zip(layer.variables, values, strict=True))):
            return layer(clip)

    return jax.jit(call)


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def oriented(clip, data_format):
    """A clip `(batch, time, height, width, channels)` in `data_format`."""
    return clip if data_format == "channels_last" else np.moveaxis(clip, -1, 2)


def channels_last(clip, data_format):
    """The inverse of `oriented`."""
    return clip if data_format == "channels_last" else np.moveaxis(clip, 2, -1)


def relative_error(actual, expected):
    """Largest difference over the largest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
