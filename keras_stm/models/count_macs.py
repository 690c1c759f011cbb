"""Multiply-adds of a model."""

import math

import keras

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError, functional_model, is_positive_int
from keras_stm.layers.cmm import CMM
from keras_stm.layers.cstm import CSTM
from keras_stm.layers.per_frame import PerFrame
from keras_stm.layers.steps import Step
from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.temporal_conv import TemporalConv
from keras_stm.models.chain import layers_of_chain


def count_macs(model, input_shape):
    """Returns the multiply-adds of the convolutions and dense layers for one clip: the paper's FLOPs.

    They are computed from the shapes of the weights and the inputs. The result does not depend on how a
    backend computes the layers.

    Args:
        model: a model of this package, a chain of such a model and further layers before or after it, or
            one step from `keras_stm.stream_model`.
        input_shape: `(T, H, W, C)` in the model's `data_format`, without `None`. For one step, `(H, W, C)`.

    Returns:
        An integer.

    Raises:
        ValueError: if `input_shape` is incomplete or does not fit the model, the layers do not form a
            chain, or a layer with weights is of an unknown kind.
    """
    model = functional_model(model)
    if isinstance(model.input, dict) and "frame" in model.input:
        return _stream(model, input_shape)
    layers = layers_of_chain(model)
    _check_shape(input_shape, model.input_shape[1:])
    total, shape = 0, (1, *input_shape)
    for layer in layers:
        total += _layer(layer, shape)
        shape = layer.compute_output_shape(shape)
    return total


def _stream(stream, input_shape):
    """Counts one step of a model from `stream_model`, whose shapes are all known."""
    _check_shape(input_shape, stream.input["frame"].shape[1:])
    return sum(
        _layer(call.layer.layer, (1, 1, *call.inputs[0].shape[1:]))
        for call in keras_compat.find_calls(stream)
        if isinstance(call.layer, Step)
    )


def _check_shape(input_shape, expected):
    valid = isinstance(input_shape, list | tuple) and len(input_shape) == len(expected)
    if not valid or not all(
        is_positive_int(size) and wanted in (None, size)
        for size, wanted in zip(input_shape, expected, strict=True)
    ):
        raise ArgumentError("input_shape", input_shape, f"must have no None and fit the model's {expected}")


def _layer(layer, shape):
    if isinstance(layer, PerFrame):
        batch, time, *frame = shape
        return _layer(layer.layer, (batch * time, *frame))
    if isinstance(layer, STMBlock):
        return _stm_block(layer, shape)
    if isinstance(layer, CSTM):
        return _chain([layer.temporal_conv, layer.conv], shape)
    if isinstance(layer, CMM):
        return _chain([layer.reduce_conv, layer.motion_conv, layer.restore_conv], shape)
    if isinstance(layer, TemporalConv):
        channels = layer.kernel.shape[-1]
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        channels = layer.kernel.shape[-1] * layer.kernel.shape[-2]
    elif hasattr(layer, "kernel"):
        channels = layer.kernel.shape[-1]
    elif any(len(weight.shape) > 1 for weight in layer.weights):
        raise ArgumentError(
            "model", layer.name, "must consist of convolutions, dense layers and blocks of ours"
        )
    else:
        return 0
    places = math.prod(layer.compute_output_shape(shape)) // channels
    return places * math.prod(layer.kernel.shape)


def _chain(layers, shape):
    total = 0
    for layer in layers:
        if layer is not None:
            total += _layer(layer, shape)
            shape = layer.compute_output_shape(shape)
    return total


def _stm_block(block, shape):
    """Counts a block, which is not a chain: both branches start from the reduced features."""
    reduced = block.reduce_conv.compute_output_shape(shape)
    encoded = block.cstm.compute_output_shape(reduced)
    parts = [
        (block.reduce_conv, shape),
        (block.cstm, reduced),
        (block.cmm, reduced),
        (block.fusion_conv, encoded),
        (block.restore_conv, encoded),
        (block.shortcut_conv, shape),
    ]
    return sum(_layer(layer, layer_shape) for layer, layer_shape in parts if layer is not None)
