import pytest

from keras_stm.layers import STMBlock
from tests.layers.check_layer import assert_parity, check_gradients, check_layer
from tests.reference import numpy_layers
from tests.reference.backend import BACKEND, DATA_FORMATS

pytestmark = pytest.mark.every_backend

SHAPE = (2, 3, 7, 5, 8)

test_stm_block_as_a_keras_layer = check_layer(
    STMBlock,
    {
        "filters": 4,
        "strides": 2,
        "branches": ("cmm",),
        "fusion": "concat",
        "temporal_conv": "ordinary",
        "reduction": 2,
        "causal": True,
    },
    SHAPE,
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("as_shape", [tuple, list])
def test_the_shortcut_is_a_convolution_only_where_channels_or_size_change(as_shape, data_format):
    """A shape from a file is a list. The layers of a block must not depend on that."""
    for channels, strides, convolves in ((16, 1, False), (16, 2, True), (8, 1, True)):
        block = STMBlock(4, strides, reduction=2, data_format=data_format)
        shape = (None, 3, 7, 5, channels) if data_format == "channels_last" else (None, 3, channels, 7, 5)
        block.build(as_shape(shape))
        assert (block.shortcut_conv is not None) == convolves


@pytest.mark.skipif(BACKEND == "jax", reason="test_training_parity.py trains both branches")
def test_training_reaches_every_weight_of_both_branches():
    check_gradients(STMBlock, {"filters": 8, "reduction": 2, "data_format": "channels_first"}, SHAPE)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"strides": 2, "shape": (1, 2, 1, 1, 16)},
        {"shape": (1, 1, 6, 8, 16)},  # the shortcut has no convolution
        {"branches": ("cstm",)},
        {"branches": ("cmm",), "strides": 2},
        {"branches": ()},
        {"fusion": "mean", "temporal_conv": "ordinary"},
        {"fusion": "concat", "reduction": 1},
        {"data_format": "channels_first"},
        {"data_format": "channels_first", "fusion": "concat", "strides": 2},
    ],
    ids=str,
)
def test_stm_block_equals_numpy_loops(arguments):
    arguments = {"reduction": 2, "data_format": "channels_last", **arguments}
    shape = arguments.pop("shape", SHAPE)
    layer = STMBlock(4, **arguments)

    def reference(clip, weights):
        return numpy_layers.stm_block(
            clip, weights, arguments.get("strides", 1), arguments.get("fusion", "sum")
        )

    assert_parity(layer, reference, shape, arguments["data_format"])
