"""Every use of Keras that is not public API.

`tests/test_keras_compat.py` has a canary test for each, which says by name what a newer Keras has changed.
"""

import typing

import keras
import numpy as np


def flatten_layers(layer):
    """List of a layer or model and all layers within, of any depth."""
    return list(layer._flatten_layers())


class Call(typing.NamedTuple):
    """One use of a layer in a functional model.

    Attributes:
        layer: what is called: a layer, a model, or another operation.
        inputs, outputs: lists of symbolic tensors.
        kwargs: dictionary of the arguments that were given by name.
    """

    layer: keras.Operation
    inputs: list
    outputs: list
    kwargs: dict


def find_calls(model):
    """List of the `Call`s that a functional model consists of."""
    nodes = [node for level in model._nodes_by_depth.values() for node in level]
    return [
        Call(node.operation, node.input_tensors, node.output_tensors, node.arguments.kwargs) for node in nodes
    ]


class WithoutDecoupledDecay:
    """Comes before an optimiser of Keras among the bases of one that adds the decay to the gradient."""

    def _apply_weight_decay(self, variables):
        # Keras' hook: its decay is beside the step.
        pass


def path_of(optimizer, variable):
    """Path of a weight that `update_step` gets, which under TensorFlow is TensorFlow's and has none."""
    return optimizer._trainable_variables[optimizer._get_variable_index(variable)].path


def decays(optimizer, variable):
    """Whether a weight that `update_step` gets is none that `exclude_from_weight_decay` names."""
    return optimizer._use_weight_decay(variable)


def compute_with_tensorflow(layer):
    """Returns an augmenting layer that computes with TensorFlow under every backend."""
    layer.backend.set_backend("tensorflow")
    return layer


class SeedsWithoutVariable(keras.random.SeedGenerator):
    """Base of a source of seeds whose `next(ordered=True)` gives each, a tensor of two integers."""

    def __init__(self):
        # Not Keras' own, which makes a variable to count what was drawn.
        pass


# The weights within a `.keras` file.
WEIGHTS_OF_ARCHIVE = "model.weights.h5"


def find_datasets(file):
    """`{owner's path/index: h5py.Dataset}` of an open `.weights.h5` file.

    Keras stores layers under generated names, and the true name of each beside it: a weight's key here
    is made of the true names and its index within its layer, `conv1_bn/0` for the first of `conv1_bn`.

    Raises:
        ValueError: there are none, two of one name, or one whose values are in another file.
        KeyError: a layer has no name.
    """
    import h5py

    datasets = {}

    def visit(path, item):
        top, *owners = path.split("/")
        if top != "layers" or not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{path} lies in another file")
        *owners, _, index = owners
        groups = ["/".join([top, *owners[: depth + 1], "vars"]) for depth in range(len(owners))]
        if all(group in file for group in groups):
            name = "/".join([*(str(file[group].attrs["name"]) for group in groups), index])
            if name in datasets:
                raise ValueError(f"it has two weights {name}")
            datasets[name] = item

    # Goes to each once and along no link, which could lead into other files, or round in a circle.
    file.visititems(visit)
    if not datasets:
        raise ValueError("no weights in `layers`")
    return datasets


def read_dataset(dataset):
    """Array of one of `find_datasets`."""
    array = np.asarray(dataset[()])
    # HDF5 has no bfloat16.
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array
