import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_stm.layers.temporal_conv import TemporalConv, convolve_strip
from tests.layers.check_layer import assert_parity, check_layer, random_clip
from tests.reference import numpy_layers
from tests.reference.backend import (
    DATA_FORMATS,
    channels_last,
    compute,
    numpy,
    oriented,
    relative_error,
    run,
)

pytestmark = pytest.mark.every_backend

test_temporal_conv_as_a_keras_layer = check_layer(
    TemporalConv, {"kind": "ordinary", "causal": True}, (2, 3, 3, 2, 8)
)


@pytest.mark.parametrize(
    "frames, dtype, tolerance, data_format",
    [
        (1, "float32", 1e-6, "channels_last"),
        (2, "float32", 1e-6, "channels_first"),
        (8, "bfloat16", 2e-2, "channels_last"),
        (8, "float16", 2e-3, "channels_first"),
    ],
)
def test_equals_numpy_loops_in_every_dtype(frames, dtype, tolerance, data_format):
    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    clip = random_clip((2, frames, 3, 5, 6)).astype(numpy_dtype)
    kernel = random_clip((3, 6), seed=1).astype(numpy_dtype)
    expected = numpy_layers.temporal_conv(clip.astype("float64"), kernel.astype("float64"))

    def convolve(clip, kernel):
        clip, kernel = ops.cast(clip, dtype), ops.cast(kernel, dtype)
        return convolve_strip(clip, kernel, data_format)

    clip = oriented(clip.astype("float32"), data_format)
    outputs = run(convolve, clip, kernel.astype("float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    assert relative_error(channels_last(numpy(outputs), data_format), expected) < tolerance


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "kind, frames, causal",
    [
        ("channelwise", 5, False),
        ("channelwise", 1, False),
        ("ordinary", 5, False),
        ("channelwise", 5, True),
        ("ordinary", 1, True),
    ],
)
def test_temporal_conv_equals_numpy_loops(frames, kind, causal, data_format):
    layer = TemporalConv(kind, data_format, causal)

    def reference(clip, weights):
        return numpy_layers.temporal_conv(clip, weights["kernel"], causal)

    assert_parity(layer, reference, (2, frames, 3, 5, 8), data_format)


@pytest.mark.parametrize("kind", ["channelwise", "ordinary"])
def test_starts_as_a_shift_of_a_quarter_each_way(kind):
    layer = TemporalConv(kind)
    layer.build((None, None, None, None, 8))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    taps = np.array([[1, 0, 0]] * 2 + [[0, 1, 0]] * 4 + [[0, 0, 1]] * 2).T
    expected = taps if kind == "channelwise" else taps[:, :, None] * np.eye(8)
    np.testing.assert_array_equal(kernel, expected)


def test_first_quarter_starts_by_reading_the_previous_frame():
    clip = np.zeros((1, 3, 1, 1, 4), "float32")
    clip[0, :, 0, 0, :] = [[1], [2], [3]]
    layer = TemporalConv()
    layer.build(clip.shape)
    outputs = numpy(compute(layer, clip))[0, :, 0, 0, :]
    assert outputs.T.tolist() == [[0, 1, 2], [1, 2, 3], [1, 2, 3], [2, 3, 0]]
