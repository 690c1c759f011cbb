import keras
import numpy as np
import pytest

from keras_stm.layers import CMM
from tests.layers.check_layer import assert_parity, check_layer
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS

pytestmark = pytest.mark.every_backend

test_cmm_as_a_keras_layer = check_layer(CMM, {"filters": 8, "strides": 2, "reduction": 2}, (2, 3, 7, 5, 6))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("shape, strides", [((2, 3, 7, 5, 8), 2), ((1, 2, 6, 8, 8), 1)], ids=str)
def test_cmm_equals_numpy_loops(shape, strides, data_format):
    layer = CMM(8, strides, reduction=4, data_format=data_format)

    def reference(clip, weights):
        return numpy_layers.cmm(clip, weights, strides)

    assert_parity(layer, reference, shape, data_format)


def test_kernels_start_from_pytorchs_default():
    layer = CMM(512, reduction=4)
    layer.build((None, None, None, None, 512))
    for conv, fan_in in ((layer.reduce_conv, 512), (layer.motion_conv, 9), (layer.restore_conv, 128)):
        kernel = keras.ops.convert_to_numpy(conv.layer.kernel)
        bound = fan_in**-0.5
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.98 * bound
        assert np.std(kernel) == pytest.approx(bound / 3**0.5, rel=0.05)
