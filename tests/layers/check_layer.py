"""Checks that apply to every layer. Each layer's test file calls `check_layer`."""

import functools
import inspect
import json

import keras
import numpy as np
import pytest

from keras_stm import keras_compat
from tests.reference.backend import (
    BACKEND,
    channels_last,
    compute,
    computed_shape,
    numpy,
    oriented,
    relative_error,
)

# Arguments of `compile` for one or two training steps. TensorFlow would take longer to trace than to train.
STEP = {"run_eagerly": BACKEND == "tensorflow", "jit_compile": BACKEND == "jax"}


def random_clip(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomize(layer, seed=0):
    """Draws every weight and statistic at random. Initial zeros and ones could hide errors."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        shape = tuple(variable.shape)
        if variable.path.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, shape)
        elif variable.path.endswith(("beta", "moving_mean")):
            value = rng.normal(0, 0.3, shape)
        else:
            value = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
        variable.assign(value.astype("float32"))


def weights_by_name(layer):
    """Returns `{path within the layer: array}`."""
    return {
        variable.path.removeprefix(f"{layer.name}/"): keras.ops.convert_to_numpy(variable)
        for variable in layer.weights
    }


def assert_parity(layer, reference, shape, data_format="channels_last"):
    """`layer` equals `reference(clip, weights)` on a random clip of `shape`, channels last."""
    clip = random_clip(shape)
    layer.build(oriented(clip, data_format).shape)
    randomize(layer)
    actual = numpy(compute(layer, oriented(clip, data_format)))
    expected = reference(clip.astype("float64"), weights_by_name(layer))
    actual = channels_last(actual, data_format)
    assert actual.shape == expected.shape
    # A relative tolerance alone would fail: the motion of a single frame is zero.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def fully_shaped(layer_class, arguments, shape):
    """Returns a built layer with random weights and a clip for it, in the data format of `arguments`."""
    layer = layer_class(**arguments)
    clip = oriented(random_clip(shape), arguments["data_format"])
    layer.build(clip.shape)
    randomize(layer)
    return layer, clip


def check_config(layer_class, arguments, shape):
    parameters = inspect.signature(layer_class.__init__).parameters
    own = {
        name: parameter
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind != parameter.VAR_KEYWORD
    }
    assert arguments.keys() == own.keys(), "the test lacks an argument"
    for name, parameter in own.items():
        assert arguments[name] != parameter.default, f"the test uses the default of {name}"

    base = {"name": "chosen_name", "trainable": False, "dtype": "mixed_bfloat16"}
    layer = layer_class(**arguments, **base)
    config = layer.get_config()
    for name, value in arguments.items():
        assert config[name] == value, name
    assert layer_class.from_config(config).get_config() == config
    assert layer.dtype_policy.name == "mixed_bfloat16" and not layer.trainable

    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert stored["registered_name"] == f"keras_stm>{layer_class.__name__}"
    restored = keras.saving.deserialize_keras_object(stored)
    assert type(restored) is layer_class
    assert restored.get_config() == config


def check_build(layer_class, arguments, shape):
    """`build` creates all weights. Symbolic output shapes are correct for known and unknown dimensions."""
    layer, clip = fully_shaped(layer_class, arguments, shape)
    for child in keras_compat.flatten_layers(layer):
        assert child.built, child.name
    paths = [variable.path for variable in layer.weights]
    assert len(set(paths)) == len(paths)
    eager = computed_shape(layer, clip)
    assert tuple(layer.compute_output_shape(clip.shape)) == eager
    assert tuple(layer(keras.Input(batch_shape=clip.shape)).shape) == eager
    expected = opened(eager, arguments["data_format"])
    symbolic = layer(keras.Input(batch_shape=opened(clip.shape, arguments["data_format"])))
    assert list(symbolic.shape) == expected
    assert [variable.path for variable in layer.weights] == paths
    # A shape from a file can be a list.
    other = layer_class(**arguments)
    other.build(list(clip.shape))
    assert [tuple(v.shape) for v in other.weights] == [tuple(v.shape) for v in layer.weights]


def opened(shape, data_format):
    """Returns a clip's shape with all dimensions unknown except the channels."""
    channel = 4 if data_format == "channels_last" else 2
    return [size if axis == channel else None for axis, size in enumerate(shape)]


def check_open_dimensions(layer_class, arguments, shape):
    """A layer that is traced with unknown dimensions runs on clips of any size, also of one frame."""
    import tensorflow as tf

    data_format = arguments["data_format"]
    layer, clip = fully_shaped(layer_class, arguments, shape)
    signature = [tf.TensorSpec(opened(clip.shape, data_format), "float32")]
    traced = tf.function(lambda clip: layer(clip), input_signature=signature)
    for frames, height in ((1, 5), (6, 9)):
        other = oriented(random_clip((1, frames, height, *shape[3:])), data_format)
        np.testing.assert_allclose(numpy(traced(other)), numpy(compute(layer, other)), atol=1e-5)


def check_xla(layer_class, arguments, shape):
    """The layer returns the same compiled as eagerly."""
    import tensorflow as tf

    layer, clip = fully_shaped(layer_class, arguments, shape)
    compiled = tf.function(lambda clip: layer(clip), jit_compile=True)
    np.testing.assert_allclose(numpy(compiled(clip)), numpy(layer(clip)), atol=1e-5)


def check_gradients(layer_class, arguments, shape):
    """One training step changes every trainable weight and every running statistic."""
    layer, clip = fully_shaped(layer_class, arguments, shape)
    if not layer.trainable_weights:
        pytest.skip("the layer has no weights")
    inputs = keras.Input(batch_shape=clip.shape)
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(1.0), "mse", **STEP)
    before = weights_by_name(layer)
    model.train_on_batch(clip, random_clip(model.output_shape, seed=1))
    for name, value in weights_by_name(layer).items():
        assert np.isfinite(value).all(), name
        assert (value != before[name]).any(), name


def check_mixed_precision(dtype, tolerance, layer_class, arguments, shape):
    """In mixed precision, a layer with the same configuration and weights returns nearly the same."""
    layer, clip = fully_shaped(layer_class, arguments, shape)
    mixed = layer_class.from_config({**layer.get_config(), "dtype": f"mixed_{dtype}"})
    mixed.build(clip.shape)
    mixed.set_weights(layer.get_weights())
    assert all(variable.dtype == "float32" for variable in mixed.weights)
    outputs = compute(mixed, clip)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    assert relative_error(numpy(outputs), numpy(compute(layer, clip))) < tolerance


_LAST, _FIRST = "channels_last", "channels_first"
_TRACES = pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends trace no unknown dimensions")
_COMPILES = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="`compute` compiles under JAX, and Keras does not under PyTorch"
)
_ONCE = pytest.mark.skipif(
    BACKEND == "jax", reason="compilation takes long, and test_models.py tests all layers in float16"
)
# The checks and their data formats. `assert_parity` compares numbers in both data formats.
CASES = [
    pytest.param(check, data_format, marks=marks, id=f"{name}-{data_format}")
    for name, check, data_formats, marks in [
        ("config_holds_every_argument", check_config, [_FIRST], []),
        ("built_layer_has_weights_and_shapes", check_build, [_LAST, _FIRST], []),
        ("open_dimensions_take_any_clip", check_open_dimensions, [_LAST, _FIRST], _TRACES),
        ("training_reaches_every_weight", check_gradients, [_LAST], []),
        ("mixed_bfloat16_is_close", functools.partial(check_mixed_precision, "bfloat16", 5e-2), [_LAST], []),
        (
            "mixed_float16_is_close",
            functools.partial(check_mixed_precision, "float16", 5e-3),
            [_FIRST],
            _ONCE,
        ),
        ("xla_is_eager", check_xla, [_LAST], _COMPILES),
    ]
    for data_format in data_formats
]


def check_layer(layer_class, arguments, shape):
    """Returns a test of a layer with one case per check.

    `arguments` are all arguments of the constructor, at values that are not the defaults. The cases choose
    two of them: `data_format`, and `use_batch_norm`, because without BatchNormalization there is less to
    check. `shape` is the shape of a clip, channels last.
    """

    def cases(check, data_format):
        more = {"data_format": data_format}
        if "use_batch_norm" in inspect.signature(layer_class.__init__).parameters:
            more["use_batch_norm"] = check is not check_config
        check(layer_class, {**arguments, **more}, shape)

    return pytest.mark.parametrize("check, data_format", CASES)(cases)
