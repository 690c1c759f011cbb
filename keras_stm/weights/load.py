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
            - `"imagenet"`: the 2-D ResNet of the same depth, downloaded once. The head stays random.
            - a `.weights.h5` or `.keras` file that was saved from such a model.
            - a `.safetensors` file, or a PyTorch `.pth`, `.pt` or `.pth.tar` checkpoint, with the names of
              the published STM code, of TSM's or of torchvision's ResNet. A 2-D ResNet is inflated:
              what it lacks, the temporal convolutions and CMM, stays at its initial values.

        include_top: if false, the head stays at its initial values.

    A head of another number of classes is left at its initial values, with a line in the log; a model
    without a head takes none.

    Raises:
        ValueError: if the file does not exist, cannot be read, does not fit the model or has weights
            that are no finite floating point numbers. Nothing is changed then, and nothing that the
            file may hold of code is run.
        ImportError: if a PyTorch checkpoint is read without PyTorch.
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
    """What a file of weights has, and what a model wants of it, by the names that the file uses.

    Attributes:
        found: `{name: array}` of the file.
        wanted: `{name: variable}` of the model.
        shapes: `{name: shape}` of what is wanted, as it is in a file.
        head: names of the head's kernel and bias.
        convert: function of a variable and its array in the file that returns the variable's value.
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
        # Here, as not every reader tells the reason.
        open(path, "rb").close()
    except OSError as error:
        raise files.unreadable(path, "cannot be opened", error) from error
    return path


def _read_keras(model, path):
    found, wanted = files.read_keras(path), _keras_names(model)
    shapes = {name: tuple(variable.shape) for name, variable in wanted.items()}
    return _File(found, wanted, shapes, names.KERAS_HEAD, lambda variable, array: array)


def _read_reference(model, path):
    """Of a file with the names of the published code, or of a 2-D ResNet."""
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
    """Whether the model has a head, and not one of another number of classes."""
    kernel, bias = file.head
    if kernel not in file.wanted:
        return False
    if bias in file.found and file.found[bias].ndim == 1 and file.found[bias].shape != file.shapes[bias]:
        logging.warning(
            "%s has a head of %d classes, this model one of %d: it is left at its initial values.",
            os.path.basename(path),
            *(file.found[bias].shape + file.shapes[bias]),
        )
        return False
    return True


def _keras_names(model):
    """`{owner's path/index: variable}`, the keys of `files.read_keras`."""
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
        "misshapen": [
            f"{name} {found[name].shape} for {shapes[name]}"
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
            "weights", weights, f"must fit this model, which {os.path.basename(path)} does not: {listed}"
        )


def _is_finite(array):
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype("float32")).all()


def _shorten(name):
    """A name from a file, as a terminal can show it."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
