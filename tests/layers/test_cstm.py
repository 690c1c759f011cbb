import keras
import numpy as np
import pytest

from keras_stm.layers import CSTM
from tests.layers.check_layer import assert_parity, check_layer
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS

pytestmark = pytest.mark.every_backend

test_cstm_as_a_keras_layer = check_layer(
    CSTM, {"filters": 6, "strides": 2, "temporal_conv": "ordinary", "causal": True}, (2, 3, 7, 5, 8)
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "shape, strides, temporal_conv",
    [
        ((2, 3, 7, 5, 8), 2, "channelwise"),
        ((2, 3, 6, 8, 8), 2, "ordinary"),
        ((1, 1, 6, 8, 8), 1, "channelwise"),
        ((1, 2, 7, 5, 8), 1, None),
    ],
    ids=str,
)
def test_cstm_equals_numpy_loops(shape, strides, temporal_conv, data_format):
    layer = CSTM(6, strides, temporal_conv, data_format)

    def reference(clip, weights):
        return numpy_layers.cstm(clip, weights, strides)

    assert_parity(layer, reference, shape, data_format)


def test_spatial_kernel_starts_from_he_normal_fan_out():
    layer = CSTM(64)
    layer.build((None, None, None, None, 128))
    kernel = keras.ops.convert_to_numpy(layer.conv.layer.kernel)
    assert np.std(kernel) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert abs(np.mean(kernel)) < 1e-3
