"""BatchNormalization folded into convolutions, for inference."""

import collections

import keras
import numpy as np

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError, functional_model
from keras_stm.layers.cmm import CMM
from keras_stm.layers.cstm import CSTM
from keras_stm.layers.per_frame import PerFrame
from keras_stm.layers.stm_block import STMBlock

# For each block, its layers with weights and the BatchNormalization after each of them.
_CHILDREN = {
    STMBlock: {
        "reduce_conv": "reduce_bn",
        "fusion_conv": None,
        "restore_conv": "restore_bn",
        "shortcut_conv": "shortcut_bn",
    },
    CSTM: {"temporal_conv": None, "conv": "bn"},
    CMM: {"reduce_conv": "reduce_bn", "motion_conv": None, "restore_conv": None},
}
_BLOCKS = tuple(_CHILDREN)
_MODELS = (keras.Function, keras.Sequential)


def fold_batch_norm(model):
    """Returns a model for inference with BatchNormalization folded into the convolutions before it.

    With fixed moving statistics, BatchNormalization is a factor and a shift per channel. The factor is
    multiplied into the kernel of the convolution before it. The shift is added to its bias; a
    convolution without a bias gets one.

    Args:
        model: a model of this package, or a model with further layers around one. It is not changed.

    Returns:
        An uncompiled `keras.Model` without BatchNormalization and LoRA. Its outputs are the same except for
        rounding.
        The other layers keep their names.

    Raises:
        ValueError: if a BatchNormalization cannot be folded because it does not follow a convolution or
            dense layer, or if `model` is neither functional nor a `Sequential` that knows its input.
    """
    model = functional_model(model)
    batch_norms = _find_convolutions(model)
    clones = {}

    def clone(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer
        clones[layer] = _clone(layer, with_bias=layer in batch_norms)
        return clones[layer]

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.BatchNormalization):
            return args[0] if args else kwargs["inputs"]
        return layer(*args, **kwargs)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer, copy in clones.items():
        if layer in batch_norms:
            _fold(layer, batch_norms[layer], copy)
        elif isinstance(layer, _BLOCKS):
            _fold_block(layer, copy)
        elif not isinstance(layer, _MODELS):
            copy.set_weights(list(keras_compat.merged_weights(layer).values()))
    # A clone of a compiled model is compiled. The new model is not.
    return keras.Model(folded.input, folded.output, name=model.name)


def _clone(layer, with_bias):
    """Returns a layer of the same kind without BatchNormalization. Its weights are set later."""
    if isinstance(layer, _MODELS):
        return fold_batch_norm(layer)
    config = layer.get_config()
    inner = config["layer"]["config"] if isinstance(layer, PerFrame) else config
    # The copy has LoRA merged into its kernel.
    inner.pop("lora_rank", None)
    if with_bias:
        inner["use_bias"] = True
    elif isinstance(layer, _BLOCKS):
        config["use_batch_norm"] = False
    else:
        for child in keras_compat.flatten_layers(layer):
            if isinstance(child, keras.layers.BatchNormalization):
                raise _unfoldable(layer, f"{child.name!r} in the layer {layer.name!r}")
    return type(layer).from_config(config)


def _find_convolutions(model):
    """Returns `{layer: the BatchNormalization to fold into it}` of a functional model."""
    calls = keras_compat.find_calls(model)
    times = collections.Counter(call.layer for call in calls)
    producers = {id(tensor): call.layer for call in calls for tensor in call.outputs}
    uses = collections.Counter(id(tensor) for call in calls for tensor in call.inputs)
    uses.update(id(tensor) for tensor in model.outputs)

    found = {}
    for call in calls:
        batch_norm = call.layer
        if isinstance(batch_norm, keras.layers.BatchNormalization):
            (tensor,) = call.inputs
            layer = producers[id(tensor)]
            foldable = (
                times[batch_norm] == times[layer] == uses[id(tensor)] == 1
                and batch_norm.axis % len(tensor.shape) == _channel_axis(layer, len(tensor.shape))
                and not call.kwargs.get("training")
            )
            if not foldable:
                raise _unfoldable(model, f"{batch_norm.name!r} in the model {model.name!r}")
            found[layer] = batch_norm
    return found


def _channel_axis(layer, rank):
    """Returns the channel axis of the output of a linear convolution or dense layer, otherwise `None`."""
    inner = layer.layer if isinstance(layer, PerFrame) else layer
    kinds = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
    if not isinstance(inner, kinds) or inner.activation is not keras.activations.linear:
        return None
    if getattr(inner, "data_format", "channels_last") == "channels_last":
        return rank - 1
    return 1 if inner is layer else 2


def _unfoldable(where, what):
    return ArgumentError(
        "model",
        where,
        "must have each BatchNormalization directly after a convolution or dense layer that has no "
        "activation and no other use",
        f"a BatchNormalization {what}",
    )


def _fold_block(block, copy):
    """Sets the weights of the `copy` of a block or of a branch."""
    for name in ("cstm", "cmm"):
        if getattr(block, name, None):
            _fold_block(getattr(block, name), getattr(copy, name))
    kind = next(kind for kind in _BLOCKS if isinstance(block, kind))
    for name, batch_norm in _CHILDREN[kind].items():
        layer = getattr(block, name)
        if layer:
            _fold(layer, batch_norm and getattr(block, batch_norm), getattr(copy, name))


def _fold(layer, batch_norm, copy):
    """Sets the weights of the `copy` of a layer, with the `batch_norm` after the layer folded in."""
    # A block may already have no BatchNormalization.
    if not isinstance(batch_norm, keras.layers.BatchNormalization):
        copy.set_weights(list(keras_compat.merged_weights(layer).values()))
        return
    if isinstance(layer, PerFrame):
        layer, copy = layer.layer, copy.layer
    scale = 1 / np.sqrt(_array(batch_norm.moving_variance) + batch_norm.epsilon)
    if batch_norm.gamma is not None:
        scale *= _array(batch_norm.gamma)
    shift = -_array(batch_norm.moving_mean)
    if layer.bias is not None:
        shift += _array(layer.bias)
    shift *= scale
    if batch_norm.beta is not None:
        shift += _array(batch_norm.beta)
    copy.kernel.assign(_array(layer.kernel) * scale)
    copy.bias.assign(shift)


def _array(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
