"""Converts weights between our names and layouts and those of the published PyTorch checkpoints."""

import re

from keras_stm.arguments import ArgumentError

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
    block = re.fullmatch(r"conv(\d)_block(\d+)/(.+)", owner)
    if owner in _OUTSIDE:
        prefix = _OUTSIDE[owner]
    elif block and block[3] in _IN_BLOCK:
        prefix = f"layer{int(block[1]) - 1}.{int(block[2]) - 1}.{_IN_BLOCK[block[3]]}"
    else:
        raise ArgumentError(
            "model", model, "must be a model of keras_stm without further layers", f"a weight {path!r}"
        )
    return f"{prefix}.{_VARIABLE[variable]}"


def is_temporal(name):
    """Returns whether a published name belongs to a layer that a 2-D ResNet lacks."""
    return re.search(r"^layer\d\.\d+\.(shift|mb|fusion)\.", name) is not None


def clean_names(arrays):
    """Removes the prefixes and suffixes that training code adds to the published names.

    Checkpoints prefix every name with `module.` or `module.base_model.`. TSM's checkpoints add `.net` to the
    convolution after the shift and call the head `new_fc`. Counters of BatchNorm are dropped.

    Raises:
        ValueError: if two names become the same.
    """
    cleaned = {}
    for name, array in arrays.items():
        name = re.sub(r"^(module\.)?(base_model\.)?", "", name)
        name = re.sub(r"\.conv1\.net\.", ".conv1.", name)
        name = re.sub(r"^new_fc\.", "fc.", name)
        if name in cleaned:
            raise ValueError(f"it has two weights {name}")
        if not name.endswith("num_batches_tracked"):
            cleaned[name] = array
    return cleaned


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
