import keras
import numpy as np
import pytest

from keras_stm.layers import STMBlock
from tests.layers.check_layer import assert_parity, check_gradients, check_layer, weights_by_name
from tests.reference import numpy_layers
from tests.reference.backend import DATA_FORMATS

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
    },
    SHAPE,
)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("as_shape", [tuple, list])
def test_the_shortcut_is_a_convolution_only_where_channels_or_size_change(as_shape, data_format):
    """A shape from a file is a list: what a block is made of must not hang on that."""
    for channels, strides, convolves in ((16, 1, False), (16, 2, True), (8, 1, True)):
        block = STMBlock(4, strides, reduction=2, data_format=data_format)
        shape = (None, 3, 7, 5, channels) if data_format == "channels_last" else (None, 3, channels, 7, 5)
        block.build(as_shape(shape))
        assert (block.shortcut_conv is not None) == convolves


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("temporal_conv", ["channelwise", "ordinary"])
def test_training_reaches_every_weight_of_both_branches(temporal_conv, fusion):
    arguments = {"filters": 8, "fusion": fusion, "temporal_conv": temporal_conv, "reduction": 2}
    check_gradients(STMBlock, {**arguments, "data_format": "channels_last"}, SHAPE)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"strides": 2},
        {"branches": ("cstm",)},
        {"branches": ("cmm",), "strides": 2},
        {"branches": ()},
        {"fusion": "mean"},
        {"fusion": "concat", "strides": 2},
        {"temporal_conv": "ordinary"},
        {"reduction": 1},
    ],
    ids=str,
)
def test_stm_block_equals_numpy_loops(arguments, data_format):
    arguments = {"reduction": 2, **arguments}
    layer = STMBlock(4, data_format=data_format, **arguments)

    def reference(clip, weights):
        return numpy_layers.stm_block(
            clip, weights, arguments.get("strides", 1), arguments.get("fusion", "sum")
        )

    assert_parity(layer, reference, SHAPE, data_format)


@pytest.mark.parametrize(
    "shape, strides, convolved",
    [
        ((1, 1, 6, 8, 16), 1, False),
        ((1, 1, 6, 8, 16), 2, True),
        ((1, 2, 6, 8, 12), 1, True),
        ((1, 2, 1, 1, 16), 2, True),
    ],
    ids=str,
)
def test_shortcut_is_a_convolution_only_where_the_shape_changes(shape, strides, convolved):
    layer = STMBlock(4, strides, reduction=2)

    def reference(clip, weights):
        assert ("shortcut_conv/conv/kernel" in weights) == convolved
        return numpy_layers.stm_block(clip, weights, strides)

    assert_parity(layer, reference, shape)


def test_two_blocks_start_from_different_weights():
    kernels = []
    for _ in range(2):
        block = STMBlock(4, reduction=2)
        block.build(SHAPE)
        kernels.append({name: value for name, value in weights_by_name(block).items() if value.ndim == 4})
    first, second = kernels
    for name in first:
        assert (first[name] != second[name]).all(), name


def test_kernels_of_one_block_differ():
    block = STMBlock(8, branches=())
    block.build((None, None, None, None, 32))
    reduce_conv, restore_conv = (
        keras.ops.convert_to_numpy(conv.layer.kernel).reshape(-1)
        for conv in (block.reduce_conv, block.restore_conv)
    )
    # Equal seeds would give equal draws, scaled.
    assert abs(np.corrcoef(reduce_conv, restore_conv)[0, 1]) < 0.5


@pytest.mark.parametrize(
    "name, value",
    [
        ("filters", 0),
        ("filters", 2.0),
        ("strides", 0),
        ("branches", "cstm"),
        ("branches", ("stm",)),
        ("fusion", "product"),
        ("temporal_conv", None),
        ("reduction", True),
        ("data_format", "NHWC"),
        ("use_batch_norm", "no"),
    ],
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}=.*") as error:
        STMBlock(**{"filters": 4, "reduction": 2, name: value})
    assert str(error.value).endswith(f"Received: {name}={value!r}")


@pytest.mark.parametrize("shape", [(2, 8, 8, 64), (1, 2, 3, 8, 8, 64), (1, 2, 8, 8, 0)])
def test_what_is_no_clip_is_refused_by_its_shape(shape):
    with pytest.raises(ValueError, match="`clip` must be .batch, time, height, width, channels.") as error:
        STMBlock(16)(np.zeros(shape, "float32"))
    assert str(error.value).endswith(f"Received: clip.shape={shape}")
