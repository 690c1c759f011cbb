"""Converts weights between our names and layouts and those of the published PyTorch checkpoints."""

import re
import typing

from keras_stm.arguments import ArgumentError
from keras_stm.keras_compat import merged_weights
from keras_stm.weights.network import published_block, shifted_blocks

# Our path within a block -> the published name within a block. The published code calls CMM `mb` and the
# temporal convolution `shift`. The name `fusion` is ours: the concatenation of Table 6 was not published.
_IN_BLOCK = {
    "reduce_conv/conv": "conv1",
    "reduce_bn": "bn1",
    "cstm/temporal_conv": "shift",
    "cstm/conv/conv": "conv2",
    "cstm/bn": "bn2",
    "cmm/reduce_conv/conv": "mb.stage_conv",
    "cmm/reduce_bn": "mb.stage_bn",
    "cmm/motion_conv/conv": "mb.shift",
    "cmm/restore_conv/conv": "mb.conv1x1",
    "fusion_conv/conv": "fusion",
    "restore_conv/conv": "conv3",
    "restore_bn": "bn3",
    "shortcut_conv/conv": "downsample.0",
    "shortcut_bn": "downsample.1",
}
_OUTSIDE = {"conv1_conv/conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
_VARIABLE = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# What stands before the first part of a published name.
_PREFIX = re.compile(r"^(?:[^.]+\.)*?(?=(?:conv1|bn1|layer[1-4]|fc|new_fc|fc_cls)\.)")
# mmcv's EMAHook keeps a second copy of each weight under a name without dots. It swaps the copies before it
# saves, so that the ordinary names hold the averaged weights, which mmaction2 tests with.
_DROPPED = re.compile(r"num_batches_tracked$|^data_preprocessor\.|^(?:module\.)?ema_[^.]*$")
_UNSUPPORTED = {
    r"\blayer\d\.\d+\.(nl|non_local_block)\.": "has non-local blocks",
    r"\blayer\d\.\d+\.net\.": "shifts whole blocks, with their shortcuts",
    r"\blayer\d\.net\.": "pools over time between its stages",
}

REFERENCE_HEAD = ("fc.weight", "fc.bias")
KERAS_HEAD = ("predictions/0", "predictions/1")


def reference_names(model):
    """Returns `{published name: variable}` of all weights of a model.

    Raises:
        ValueError: if the model has a weight that does not belong to this package.
    """
    return {_reference_name(variable.path, model): variable for variable in model.weights}


def _reference_name(path, model):
    owner, _, variable = path.rpartition("/")
    layer, _, inner = owner.partition("/")
    if owner in _OUTSIDE:
        prefix = _OUTSIDE[owner]
    elif published_block(layer) and inner in _IN_BLOCK:
        prefix = f"{published_block(layer)}.{_IN_BLOCK[inner]}"
    else:
        prefix = None
    # Quantization adds weights to our layers.
    if prefix is None or variable not in _VARIABLE:
        raise ArgumentError(
            "model", model, "must be a model of keras_stm without further layers", f"a weight {path!r}"
        )
    return f"{prefix}.{_VARIABLE[variable]}"


def arrays_to_save(model):
    """Returns `{published name: array}` of all weights, in PyTorch's layout.

    Blocks that shift have TSM's `.net` in the name. LoRA is merged into the kernels.

    Raises:
        ValueError: if the model has a weight that does not belong to this package.
    """
    shifted = {f"{block}.conv1.weight" for block in shifted_blocks(model)}
    arrays = {}
    for path, array in merged_weights(model).items():
        name = _reference_name(path, model)
        if name in shifted:
            name = name.replace(".weight", ".net.weight")
        arrays[name] = to_reference(path, array)
    return arrays


def is_temporal(name):
    """Returns whether a published or a Keras name belongs to a layer that a 2-D ResNet lacks."""
    published = r"^layer\d\.\d+\.(shift|mb|fusion)\."
    ours = r"^conv\d_block\d+/(cstm/temporal_conv|cmm|fusion_conv)/"
    return re.search(f"{published}|{ours}", name) is not None


class Cleaned(typing.NamedTuple):
    """Weights of a checkpoint under the published names.

    Attributes:
        arrays: `{published name: array}`.
        shifted: set of the blocks with TSM's temporal shift, such as `"layer1.0"`.
    """

    arrays: dict
    shifted: set


def clean_names(arrays):
    """Converts the names of a checkpoint to the published names.

    Training code prefixes every name: with `module.`, `module.base_model.`, `backbone.`, `_orig_mod.` or the
    name of its own attribute. TSM adds `.net` to the convolution after the shift and calls the head `new_fc`.
    mmaction2 groups a convolution with its BatchNorm and calls the head `cls_head.fc_cls`. Counters of
    BatchNorm, preprocessing and the copies of averaged weights are dropped.

    Raises:
        ValueError: if two names become the same.
    """
    cleaned, shifted = {}, set()
    for name, array in arrays.items():
        if _DROPPED.search(name):
            continue
        name = _PREFIX.sub("", name, count=1)
        name = re.sub(r"\bconv(\d)\.conv\.", r"conv\1.", name)
        name = re.sub(r"\bconv(\d)\.bn\.", r"bn\1.", name)
        name = re.sub(r"\bdownsample\.(conv|bn)\.", lambda m: f"downsample.{int(m[1] == 'bn')}.", name)
        if shift := re.match(r"(layer\d\.\d+)\.conv1\.net\.", name):
            shifted.add(shift[1])
            name = name.replace(".conv1.net.", ".conv1.", 1)
        name = re.sub(r"^(new_fc|fc_cls)\.", "fc.", name)
        if name in cleaned:
            raise ValueError(f"it has two weights {name}")
        cleaned[name] = array
    return Cleaned(cleaned, shifted)


def find_unsupported(names):
    """Returns the layers of related networks that no network of this package has, in words, or `None`."""
    for pattern, what in _UNSUPPORTED.items():
        found = sorted({match[0].rstrip(".") for name in names if (match := re.search(pattern, name))})
        if found:
            return f"{what} ({', '.join(found)})"
    return None


def to_reference(path, array):
    """Converts our weight at `path` to PyTorch's layout (filters first)."""
    if path.endswith("temporal_conv/kernel"):
        return array.T[:, None] if array.ndim == 2 else array.T
    if path.endswith("motion_conv/conv/kernel"):
        return array.transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T


def from_reference(path, array, shape):
    """Converts a weight to the layout of our weight at `path` with `shape`; the inverse of `to_reference`."""
    if path.endswith("temporal_conv/kernel"):
        return array[:, 0].T if len(shape) == 2 else array.T
    if path.endswith("motion_conv/conv/kernel"):
        return array.transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T
