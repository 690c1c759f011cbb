import pytest

from keras_stm.layers.tsm_block import TSMBlock
from tests.layers.check_layer import assert_parity, check_layer
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS

pytestmark = pytest.mark.every_backend

test_tsm_block_as_a_keras_layer = check_layer(
    TSMBlock, {"filters": 4, "strides": 2, "shift_div": 4, "causal": True}, (2, 3, 7, 5, 8)
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("shape, strides", [((2, 3, 7, 5, 16), 1), ((1, 1, 6, 8, 8), 2)], ids=str)
def test_tsm_block_equals_numpy_loops(shape, strides, data_format):
    layer = TSMBlock(4, strides, data_format=data_format)

    def reference(clip, weights):
        return numpy_layers.stm_block(clip, weights, strides, shift_div=8)

    assert_parity(layer, reference, shape, data_format)
