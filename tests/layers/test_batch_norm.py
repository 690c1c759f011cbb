import keras
import numpy as np
import pytest

from keras_stm.layers.batch_norm import BatchNormalization, batch_norm
from tests.layers.check_layer import STEP, random_clip, randomize, weights_by_name
from tests.reference.backend import BACKEND

pytestmark = pytest.mark.every_backend

own_kernel = pytest.mark.skipif(BACKEND == "jax", reason="under JAX, Keras's implementation is used")
SHAPE = (2, 3, 5, 4, 6)


def trained(layer, shape=SHAPE, compiled=STEP):
    """Returns the losses and weights of a model of one layer after two steps of gradient descent."""
    inputs = keras.Input(batch_shape=shape)
    model = keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(layer(inputs)))
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse", **compiled)
    clip = 3 * random_clip([size or 2 for size in shape]) + 2
    losses = [float(model.train_on_batch(clip, random_clip(clip.shape, 1))) for _ in range(2)]
    return {"losses": np.array(losses), **weights_by_name(layer)}


def assert_trains_as_keras_own(arguments, atol=1e-5, **kwargs):
    both = [
        trained(kind(momentum=0.9, epsilon=1e-5, name="bn", **arguments), **kwargs)
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    assert both[0].keys() == both[1].keys()
    for name in both[0]:
        assert np.isfinite(both[0][name]).all(), name
        np.testing.assert_allclose(both[0][name], both[1][name], atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "arguments",
    [{}]
    if BACKEND == "jax"
    else [
        {},
        {"axis": 4},
        {"axis": 2},
        {"scale": False},
        {"center": False},
        {"trainable": False},
        {"renorm": True},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_training_steps_are_those_of_keras_own_layer(arguments):
    assert_trains_as_keras_own(arguments)


@own_kernel
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_training_in_half_precision_is_that_of_keras_own_layer(dtype):
    assert_trains_as_keras_own({"dtype": dtype}, atol=5e-3)


@own_kernel
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 6), (1, 1, 1, 2, 6), (4, 5, 4, 6), (4, 6)], ids=str)
def test_clips_frames_and_rows_of_any_size_train_as_with_keras_own_layer(shape):
    assert_trains_as_keras_own({}, shape=shape)


@own_kernel
def test_traced_with_open_dimensions_it_trains_as_keras_own_layer():
    assert_trains_as_keras_own({}, shape=(None, None, None, None, 6), compiled={"jit_compile": False})


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles in the tests above, and PyTorch never")
def test_compiled_by_xla_it_trains_as_keras_own_layer():
    assert_trains_as_keras_own({}, compiled={"jit_compile": True})


@own_kernel
def test_what_is_masked_does_not_count():
    clip, mask = random_clip(SHAPE), np.ones(SHAPE[:-1], bool)
    mask[:, 1:] = False
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    outputs = [kind()(clip, training=True, mask=keras.ops.convert_to_tensor(mask)) for kind in kinds]
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(each) for each in outputs), atol=1e-6)


@own_kernel
def test_training_is_one_kernel(monkeypatch):
    layer = batch_norm(name="bn", dtype=None, data_format="channels_last")
    layer.build(SHAPE)

    def fail(*args, **kwargs):
        raise AssertionError("Keras's call")

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", fail)
    layer(random_clip(SHAPE), training=True)
    with pytest.raises(AssertionError, match="Keras's call"):
        layer(random_clip(SHAPE), training=False)
    layer.synchronized = True
    with pytest.raises(AssertionError, match="Keras's call"):
        layer(random_clip(SHAPE), training=True)


def test_it_is_stored_as_what_it_is():
    layer = BatchNormalization(axis=2, name="bn")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is BatchNormalization and restored.get_config() == layer.get_config()
