"""Loads weights into a model."""

import os
import typing
from collections import defaultdict

import numpy as np
from absl import logging

from keras_stm.arguments import ArgumentError, keras_model, one_of
from keras_stm.weights import files, names
from keras_stm.weights.imagenet import imagenet_file

_LISTED = 5
_SHOWN = 80


def load_weights(model, weights, include_top=True):
    """Loads weights into a model of this package.

    Args:
        model: a model of this package.
        weights: one of
            - `"imagenet"`: the 2-D ResNet of the same depth, downloaded once. Its head is not loaded.
            - a `.weights.h5` or `.keras` file that was saved from such a model.
            - a `.safetensors` file, or a PyTorch `.pth`, `.pt` or `.pth.tar` checkpoint, with the names of
              the published STM code, of TSM's code or of torchvision's ResNet. A 2-D ResNet is inflated:
              it has no temporal convolutions and no CMM, and these keep their current values.

        include_top: if false, the head is not loaded.

    A head that is not loaded keeps its current values. If the head in the file has another number of
    classes, it is not loaded and a warning is logged. A model without a head ignores the head in the file.

    Raises:
        ValueError: if the file does not exist, is unreadable, does not fit the model, or has weights that
            are not finite floating point numbers. The model is unchanged then. Code in the file is never
            run.
        ImportError: if PyTorch is not installed and the file is a PyTorch checkpoint.
    """
    keras_model(model)
    one_of("include_top", include_top, (True, False))
    path = _find_file(model, weights)
    is_keras = path.endswith(files.KERAS_SUFFIXES)
    file = _read_keras(model, path) if is_keras else _read_reference(model, path)
    if weights == "imagenet" or not include_top or not _is_head_wanted(file, path):
        file = file.without(file.head)
    _check(file, path, weights)
    for name, variable in file.wanted.items():
        variable.assign(file.convert(variable, file.found[name]))


class _File(typing.NamedTuple):
    """The weights of a file and the weights of a model, by the names that the file uses.

    Attributes:
        found: `{name: array}` of the file.
        wanted: `{name: variable}` of the model.
        shapes: `{name: shape}` of the wanted weights in the layout of the file.
        head: names of the head's kernel and bias.
        convert: function of a variable and its array in the file. It returns the variable's value.
    """

    found: dict
    wanted: dict
    shapes: dict
    head: tuple
    convert: typing.Callable

    def without(self, excluded):
        kept = (
            {name: value for name, value in values.items() if name not in excluded}
            for values in (self.found, self.wanted, self.shapes)
        )
        return _File(*kept, self.head, self.convert)


def _find_file(model, weights):
    path = imagenet_file(model) if weights == "imagenet" else str(weights)
    if not path.endswith(files.SUFFIXES):
        raise ArgumentError(
            "weights", weights, f"must be None, 'imagenet' or a file that ends in {', '.join(files.SUFFIXES)}"
        )
    if not os.path.isfile(path):
        raise ArgumentError("weights", weights, "is not a file that exists")
    try:
        # Open it here, because not every reader reports the reason.
        open(path, "rb").close()
    except OSError as error:
        raise files.unreadable(path, "cannot be opened", error) from error
    return path


def _read_keras(model, path):
    found, wanted = files.read_keras(path), _keras_names(model)
    shapes = {name: tuple(variable.shape) for name, variable in wanted.items()}
    return _File(found, wanted, shapes, names.KERAS_HEAD, lambda variable, array: array)


def _read_reference(model, path):
    """Reads a file with the names of the published code or of a 2-D ResNet."""
    is_safe = path.endswith(".safetensors")
    arrays = (files.read_safetensors if is_safe else files.read_torch)(path)
    try:
        found = names.clean_names(arrays)
    except ValueError as error:
        raise files.unreadable(path, "is ambiguous", error) from error
    wanted = names.reference_names(model)
    if not any(map(names.is_temporal, found)):
        wanted = {name: wanted[name] for name in wanted if not names.is_temporal(name)}
    shapes = {
        name: names.to_reference(variable.path, np.empty(variable.shape)).shape
        for name, variable in wanted.items()
    }

    def convert(variable, array):
        return names.from_reference(variable.path, array, variable.shape)

    return _File(found, wanted, shapes, names.REFERENCE_HEAD, convert)


def _is_head_wanted(file, path):
    """Returns whether to load the head. Logs a warning if its number of classes differs."""
    kernel, bias = file.head
    if kernel not in file.wanted:
        return False
    if bias in file.found and file.found[bias].ndim == 1 and file.found[bias].shape != file.shapes[bias]:
        logging.warning(
            "%s has a head of %d classes, but the head of this model has %d. The head is not loaded.",
            os.path.basename(path),
            *(file.found[bias].shape + file.shapes[bias]),
        )
        return False
    return True


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


def _check(file, path, weights):
    found, shapes = file.found, file.shapes
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
            "weights", weights, f"must fit this model, but {os.path.basename(path)} does not: {listed}"
        )


def _is_finite(array):
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype("float32")).all()


def _shorten(name):
    """Returns a name from a file in a form that a terminal can show."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
