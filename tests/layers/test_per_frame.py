import keras
import numpy as np
import pytest

from keras_stm.layers.per_frame import FrameDepthwiseConv2D, FrameMaxPool2D, PerFrame, SymmetricConv2D
from tests.layers.check_layer import STEP, assert_parity, random_clip
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS, compute, numpy, oriented

pytestmark = pytest.mark.every_backend


def test_frames_are_treated_one_by_one():
    layer = PerFrame(keras.layers.Conv2D(2, 3))
    clip = random_clip((2, 3, 6, 5, 4))
    outputs = numpy(compute(layer_built(layer, clip.shape), clip))
    for frame in range(3):
        expected = numpy(layer.layer(clip[:, frame]))
        np.testing.assert_allclose(outputs[:, frame], expected, atol=1e-6)


def layer_built(layer, shape):
    layer.build(shape)
    return layer


def test_a_clip_of_no_frames_stays_one():
    conv = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    layer = layer_built(PerFrame(conv), (None, None, 6, 5, 4))
    assert tuple(layer(np.zeros((2, 0, 6, 5, 4), "float32")).shape) == (2, 0, 6, 5, 4)


def test_the_layer_inside_is_part_of_the_config():
    layer = PerFrame(keras.layers.Conv2D(2, 3, name="inside"), name="outside")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert restored.get_config() == layer.get_config()
    assert (restored.name, restored.layer.name, restored.layer.filters) == ("outside", "inside", 2)


@pytest.mark.parametrize("time", [3, None])
def test_symbolic_shape_is_known_where_it_can_be(time):
    layer = PerFrame(keras.layers.GlobalAveragePooling2D())
    assert tuple(layer(keras.Input((time, None, 7, 4))).shape) == (None, time, 4)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "kernel_size, strides, size",
    [(1, 1, (7, 5)), (1, 2, (6, 8)), (3, 1, (7, 5)), (3, 2, (6, 8)), (3, 2, (7, 5)), (7, 2, (6, 8))],
    ids=str,
)
def test_symmetric_conv_pads_both_sides_alike(size, kernel_size, strides, data_format):
    conv = SymmetricConv2D(
        2,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        data_format=data_format,
        name="conv",
    )

    def reference(clip, weights):
        return numpy_layers.conv(clip, weights["conv/kernel"], strides)

    assert_parity(PerFrame(conv), reference, (1, 2, *size, 3), data_format)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_symmetric_conv_adds_the_bias_to_channels_where_all_sizes_are_equal(data_format):
    conv = layer_built(SymmetricConv2D(4, 1, data_format=data_format), (None, 4, 4, 4))
    conv.set_weights([np.zeros((1, 1, 4, 4)), np.arange(4.0)])
    outputs = numpy(compute(conv, np.ones((2, 4, 4, 4), "float32")))
    if data_format == "channels_first":
        outputs = np.moveaxis(outputs, 1, -1)
    np.testing.assert_array_equal(outputs, np.broadcast_to(np.arange(4.0), (2, 4, 4, 4)))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_symmetric_conv_knows_its_output_shape(data_format):
    conv = SymmetricConv2D(2, 3, 2, padding="same", data_format=data_format)
    clip = oriented(np.zeros((1, 1, 5, 8, 3), "float32"), data_format)[:, 0]
    conv.build(clip.shape)
    assert tuple(conv(clip).shape) == tuple(conv.compute_output_shape(clip.shape))


_FAST_FORMS = [
    (FrameMaxPool2D, keras.layers.MaxPooling2D, {"pool_size": 2, "padding": "same"}),
    (FrameMaxPool2D, keras.layers.MaxPooling2D, {"pool_size": 1, "strides": 2}),
    (
        FrameDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        {"kernel_size": 3, "padding": "same", "use_bias": False},
    ),
]


@pytest.mark.parametrize(
    "size, data_format",
    [((6, 8), "channels_last"), ((7, 5), "channels_first"), ((1, 2), "channels_last")],
    ids=str,
)
@pytest.mark.parametrize("ours, keras_class, arguments", _FAST_FORMS)
def test_the_fast_form_of_a_layer_of_keras_equals_it(ours, keras_class, arguments, size, data_format):
    # Keras's layer is channels last: on a CPU, TensorFlow does not support channels first in every layer.
    theirs = keras_class(**arguments, data_format="channels_last")
    layer = ours(**arguments, data_format=data_format)
    frames = random_clip((3, *size, 4))
    shape = frames.shape if data_format == "channels_last" else (3, 4, *size)
    for each, its_shape in ((theirs, frames.shape), (layer, shape)):
        each.build(its_shape)
    layer.set_weights(theirs.get_weights())
    last = data_format == "channels_last"
    outputs = numpy(compute(layer, frames if last else np.moveaxis(frames, -1, 1)))
    expected = numpy(compute(theirs, frames))
    np.testing.assert_allclose(outputs if last else np.moveaxis(outputs, 1, -1), expected, atol=1e-6)


def test_a_step_of_training_through_the_fast_forms_is_that_of_keras_own_layers():
    """The gradients of every layer reach the weights of the first layer."""
    chain = [
        (keras.layers.Conv2D, keras.layers.Conv2D, {"filters": 4, "kernel_size": 1}),
        (
            FrameDepthwiseConv2D,
            keras.layers.DepthwiseConv2D,
            {"kernel_size": 3, "padding": "same", "use_bias": False},
        ),
        (SymmetricConv2D, keras.layers.Conv2D, {"filters": 5, "kernel_size": 3, "padding": "same"}),
        # Windows overlap like in the stem. In the next pool, windows at the border are cut off like in CMM.
        (FrameMaxPool2D, keras.layers.MaxPooling2D, {"pool_size": 3, "strides": 2}),
        (FrameMaxPool2D, keras.layers.MaxPooling2D, {"pool_size": 2, "padding": "same"}),
    ]
    frames, weights = random_clip((3, 16, 11, 4)), []
    for kind in (0, 1):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layer[kind](**layer[2], data_format="channels_last") for layer in chain])
        model.build(frames.shape)
        shape = model.compute_output_shape(frames.shape)
        assert shape == (3, 4, 3, 5)
        targets = np.cos(np.arange(np.prod(shape))).reshape(shape)
        model.compile(keras.optimizers.SGD(1.0), "mse", **STEP)
        start = model.get_weights()
        model.train_on_batch(frames, targets)
        weights.append(model.get_weights())
    for ours, theirs, before in zip(*weights, start, strict=True):
        assert np.abs(theirs - before).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
