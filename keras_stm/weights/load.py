"""Loads weights into a model."""

import os
import typing
from collections import defaultdict

import numpy as np
from absl import logging

from keras_stm import hub, model_file
from keras_stm.arguments import ArgumentError, keras_model, one_of
from keras_stm.keras_compat import find_lora
from keras_stm.weights import files, names
from keras_stm.weights.imagenet import imagenet_file
from keras_stm.weights.network import is_causal, shifted_blocks
from keras_stm.weights.published import PUBLISHED, is_published, published_file
from keras_stm.weights.torch_files import read_torch

_LISTED = 5
_SHOWN = 80


def load_weights(model, weights, include_top=True):
    """Loads weights into a model of this package.

    Args:
        model: a model of this package.
        weights: one of
            - `"imagenet"`: the 2-D ResNet of the same depth, downloaded once. Its head is not loaded.
            - the name of published video weights, downloaded once: `"kinetics400"`, `"kinetics400-16"`,
              `"something_v2"` or `"something_v2-16"`. `"tsn/kinetics400"` and the like take the weights of
              another network. STM, for which nobody has published weights, takes TSM's without a prefix.
            - `"hf://user/name"`: a model that `keras-stm push` has written.
            - a `.weights.h5` or `.keras` file that was saved from such a model.
            - a `.safetensors` file, or a PyTorch `.pth`, `.pt`, `.pth.tar`, `.ckpt` or `.bin` checkpoint,
              with the names of the published STM code, of TSM's code, of mmaction2's TSN and TSM, or of
              torchvision's and timm's ResNets.

        include_top: if false, the head is not loaded.

    Weights without the temporal convolutions and CMM of STM are those of a 2-D ResNet: these layers keep
    their current values. A head that is not loaded keeps its current values, too. The head is not loaded if
    the weights have none or one with another number of classes. A model without a head ignores the head in
    the file. If the model has other than three channels, the first kernel is averaged over RGB and repeated,
    as in TSN's and TSM's code. A warning names what was not taken as it is.

    Raises:
        ValueError: if the file does not exist, is unreadable, does not fit the model, or has weights that
            are not finite floating point numbers; if weights cannot be downloaded; or if the model has LoRA.
            The model is unchanged then. Code in the file is never run.
        ImportError: if PyTorch is not installed and the file is a PyTorch checkpoint.
    """
    one_of("include_top", include_top, (True, False))
    if lora := find_lora(keras_model(model)):
        raise ArgumentError("model", model, "must get LoRA after its weights", f"LoRA in {lora[0]!r}")
    put(model, read_weights(model, weights), include_top)


class Source(typing.NamedTuple):
    """Weights that were read, by the names of their file.

    Attributes:
        weights: the argument that named them.
        path: the file.
        is_keras: whether the names are those of Keras's files, and not the published ones.
        found: `{name: array}`.
        shifted: set of the published names of the blocks that are known to shift frames, as in TSM.
        causal: whether their network was causal, or `None` if that is not known.
    """

    weights: object
    path: str
    is_keras: bool
    found: dict
    shifted: set
    causal: bool | None

    @property
    def head(self):
        """Names of the head's kernel and bias."""
        return names.KERAS_HEAD if self.is_keras else names.REFERENCE_HEAD

    @property
    def classes(self):
        """Number of classes of the head, or `None` without a head."""
        bias = self.found.get(self.head[1])
        return len(bias) if bias is not None and bias.ndim == 1 else None


def read_weights(model, weights):
    """Reads the weights that `load_weights` would load.

    Args:
        model: a model of this package. It may lack the head.
        weights: see `load_weights`.

    Returns:
        `Source`.

    Raises:
        ValueError, ImportError: see `load_weights`.
    """
    path = _find_file(keras_model(model), weights)
    if path.endswith(files.KERAS_SUFFIXES):
        found, shifted = files.read_keras(path)
        return Source(weights, path, True, found, shifted, files.states_causal(path))
    arrays = (files.read_safetensors if path.endswith(".safetensors") else read_torch)(path)
    unsupported = names.find_unsupported(arrays)
    if unsupported:
        raise files.unreadable(path, f"{unsupported}, which no network of this package does")
    try:
        found, shifted = names.clean_names(arrays)
    except ValueError as error:
        raise files.unreadable(path, "is ambiguous", error) from error
    if weights == "imagenet":
        found = {name: array for name, array in found.items() if name not in names.REFERENCE_HEAD}
    return Source(weights, path, False, found, shifted, files.states_causal(path))


def is_file(weights):
    """Returns whether `load_weights` would take `weights` as the path of a file, and not as a name."""
    return weights != "imagenet" and not is_published(weights) and not hub.is_address(weights)


def _find_file(model, weights):
    if weights == "imagenet":
        return imagenet_file(model)
    if is_published(weights):
        return published_file(model, weights)
    if hub.is_address(weights):
        return hub.download(weights, model_file.MODEL)
    path = os.path.expanduser(str(weights))
    if path.endswith(".pdparams"):
        raise ArgumentError(
            "weights",
            weights,
            "is a pickle of PaddlePaddle, which could run code, and is not read. Load it with PaddlePaddle, "
            "give the weights the names of torchvision's ResNets, and save them as .safetensors",
        )
    if not path.endswith(files.SUFFIXES):
        raise ArgumentError(
            "weights",
            weights,
            f"must be None, 'imagenet' or a file that ends in {', '.join(files.SUFFIXES)}, 'hf://user/name', "
            f"or one of the published {', '.join(sorted({each.name for each in PUBLISHED}))}",
        )
    if not os.path.isfile(path):
        raise ArgumentError("weights", weights, "is not a file that exists")
    try:
        # Open it here, because not every reader reports the reason.
        open(path, "rb").close()
    except OSError as error:
        raise files.unreadable(path, "cannot be opened", error) from error
    return path


def put(model, source, include_top=True):
    """Puts weights into a model, and logs in one line what is not taken as it is.

    Args:
        model: a model of this package.
        source: the `Source` from `read_weights`.
        include_top: see `load_weights`.

    Raises:
        ValueError: if the weights do not fit the model, which is unchanged then.
    """
    found = dict(source.found)
    wanted, shapes, convert = _wanted(model, source.is_keras)
    notes = []
    if not any(map(names.is_temporal, found)):
        temporal = [name for name in wanted if names.is_temporal(name)]
        if temporal:
            notes.append(f"The {len(temporal)} weights of CSTM and CMM start anew.")
        _drop(wanted, temporal)
    if not include_top or not _takes_head(source, wanted, shapes, notes):
        _drop(wanted, source.head)
        _drop(found, source.head)
    shapes = {name: shapes[name] for name in wanted}
    _adapt_channels(source, found, shapes, notes)
    _check(found, shapes, source)
    _check_shift(model, source, notes)
    _note_causality(model, source, notes)
    for name, variable in wanted.items():
        variable.assign(convert(variable, found[name]))
    if notes:
        logging.warning(
            "%s: %d weights are taken. %s", os.path.basename(source.path), len(wanted), " ".join(notes)
        )


def _drop(values, excluded):
    for name in excluded:
        values.pop(name, None)


def _wanted(model, is_keras):
    """Returns what a file of a model would hold, by the names of the file.

    Returns:
        `{name: variable}`, `{name: shape in the file}`, and a function of a variable and its array in the
        file that returns the variable's value.
    """
    if is_keras:
        wanted = _keras_names(model)
        return (
            wanted,
            {name: tuple(variable.shape) for name, variable in wanted.items()},
            lambda _, array: array,
        )
    wanted = names.reference_names(model)
    shapes = {
        name: names.to_reference(variable.path, np.empty(variable.shape)).shape
        for name, variable in wanted.items()
    }
    return wanted, shapes, lambda variable, array: names.from_reference(variable.path, array, variable.shape)


def _takes_head(source, wanted, shapes, notes):
    """Returns whether to load the head; adds a note if the weights have no head for this model."""
    kernel, bias = source.head
    if kernel not in wanted:
        return False
    (classes,) = shapes[bias]
    if kernel not in source.found and bias not in source.found:
        notes.append("The head starts anew.")
        return False
    if source.classes not in (None, classes):
        notes.append(
            f"The head starts anew: the file has {source.classes} classes, and this model has {classes}."
        )
        return False
    return True


def _adapt_channels(source, found, shapes, notes):
    """Averages the first kernel over RGB and repeats it, if the model has other than three channels."""
    kernel, axis = ("conv1_conv/conv/0", 2) if source.is_keras else ("conv1.weight", 1)
    array, shape = found.get(kernel), shapes.get(kernel)
    if array is None or shape is None or array.ndim != 4 or "float" not in array.dtype.name:
        return
    if array.shape[axis] == 3 != shape[axis]:
        # TSM's code does not scale the mean by the number of channels.
        mean = array.astype("float32").mean(axis, keepdims=True)
        found[kernel] = mean.repeat(shape[axis], axis)
        notes.append(f"The first kernel is the mean over RGB, repeated for {shape[axis]} channels.")


def _check_shift(model, source, notes):
    """Compares the blocks that shift frames in the file and in the model; adds a note on a difference.

    Raises:
        ValueError: if both shift frames, but in other blocks.
    """
    shifted = shifted_blocks(model)
    if source.shifted == shifted:
        return
    if source.shifted and shifted:
        raise ArgumentError(
            "weights",
            source.weights,
            f"must fit this model, but {os.path.basename(source.path)} does not: it shifts frames in "
            f"{len(source.shifted)} blocks, and this model in {len(shifted)}. One of the two alone shifts in "
            f"{min(source.shifted ^ shifted)}",
        )
    if source.shifted:
        notes.append("The weights were trained with TSM's temporal shift, which this network lacks.")
    else:
        notes.append("This network has TSM's temporal shift, which the file does not name.")


def _note_causality(model, source, notes):
    """Adds a note if the network of the file read later frames and the model does not, or the reverse."""
    reads_time = source.shifted or any(map(names.is_temporal, source.found))
    if source.causal in (None, is_causal(model)) or not reads_time:
        return
    if source.causal:
        notes.append("The weights were trained in a causal network, and this one is not causal.")
    else:
        part = " Of TSM's shift it has only the part that reads the previous frame." if source.shifted else ""
        notes.append(f"This network is causal, and the weights were trained in one that is not.{part}")


def _keras_names(model):
    """Returns `{owner's path/index: variable}`, with the keys of `files.read_keras`."""
    owners = defaultdict(list)
    for variable in model.weights:
        owners[variable.path.rpartition("/")[0]].append(variable)
    return {
        f"{owner}/{index}": variable
        for owner, variables in owners.items()
        for index, variable in enumerate(variables)
    }


def _check(found, shapes, source):
    there = [name for name in shapes if name in found]
    problems = {
        "missing": [name for name in shapes if name not in found],
        "unexpected": [name for name in found if name not in shapes],
        "of another shape": [
            f"{name} {found[name].shape} instead of {shapes[name]}"
            for name in there
            if found[name].shape != shapes[name]
        ],
        "not of floating point": [
            f"{name} {found[name].dtype}" for name in there if "float" not in found[name].dtype.name
        ],
    }
    if not any(problems.values()):
        problems["not finite"] = [name for name in there if not _is_finite(found[name])]
    if any(problems.values()):
        listed = "; ".join(
            f"{len(items)} {problem}: {', '.join(map(_shorten, items[:_LISTED]))}"
            + (", ..." if len(items) > _LISTED else "")
            for problem, items in problems.items()
            if items
        )
        raise ArgumentError(
            "weights",
            source.weights,
            f"must fit this model, but {os.path.basename(source.path)} does not: {listed}",
        )


def _is_finite(array):
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype("float32")).all()


def _shorten(name):
    """Returns a name from a file in a form that a terminal can show."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
