"""Every use of Keras that is not public API.

`tests/test_keras_compat.py` has a canary test for each. A failing test names what a newer Keras has changed.
"""

import re
import typing

import keras
import numpy as np


def flatten_layers(layer):
    """Returns a list of a layer or model and all layers within it, at any depth."""
    return list(layer._flatten_layers())


def children(layer):
    """Returns a list of the layers that a layer owns directly."""
    return list(layer._layers)


def merged_weights(layer):
    """Returns `{path: array}` of a layer's weights, with LoRA merged into the kernels as Keras saves them."""
    kernels = {f"{each.path}/kernel": each.kernel for each in flatten_layers(layer) if _has_lora(each)}
    return {
        weight.path: keras.ops.convert_to_numpy(kernels.get(weight.path, weight))
        for weight in layer.weights
        if not weight.path.endswith(("/lora_kernel_a", "/lora_kernel_b"))
    }


def find_lora(model):
    """Returns the names of the layers with LoRA in a model, at any depth."""
    return [layer.path for layer in flatten_layers(model) if _has_lora(layer)]


def _has_lora(layer):
    return getattr(layer, "lora_enabled", False)


class Call(typing.NamedTuple):
    """One call of a layer in a functional model.

    Attributes:
        layer: the layer, model or other operation that is called.
        inputs, outputs: lists of symbolic tensors.
        kwargs: dictionary of the keyword arguments.
    """

    layer: keras.Operation
    inputs: list
    outputs: list
    kwargs: dict


def find_calls(model):
    """Returns the list of the `Call`s in a functional model."""
    nodes = [node for level in model._nodes_by_depth.values() for node in level]
    return [
        Call(node.operation, node.input_tensors, node.output_tensors, node.arguments.kwargs) for node in nodes
    ]


class WithoutDecoupledDecay:
    """Mixin for an optimizer that adds the weight decay to the gradient itself.

    It must come before the Keras optimizer among the base classes.
    """

    def _apply_weight_decay(self, variables):
        # Keras calls this hook to shrink the weights separately from the step.
        pass


def path_of(optimizer, variable):
    """Returns the path of a weight that `update_step` receives.

    Under TensorFlow this weight is a TensorFlow variable, which does not have the path itself.
    """
    return optimizer._trainable_variables[optimizer._get_variable_index(variable)].path


def decays(optimizer, variable):
    """Returns whether a weight that `update_step` receives decays. See `exclude_from_weight_decay`."""
    return optimizer._use_weight_decay(variable)


def compute_with_tensorflow(layer):
    """Makes an augmentation layer compute with TensorFlow under every backend, and returns it."""
    layer.backend.set_backend("tensorflow")
    return layer


class SeedsWithoutVariable(keras.random.SeedGenerator):
    """Base class for a source of seeds.

    Subclasses define `next(ordered=True)`, which returns a seed: a tensor of two integers.
    """

    def __init__(self):
        # Keras's `__init__` would create a variable that counts the draws.
        pass


# File name of the weights within a `.keras` file.
WEIGHTS_OF_ARCHIVE = "model.weights.h5"


def find_datasets(file):
    """Returns `{owner's path/index: h5py.Dataset}` of an open `.weights.h5` file.

    Keras stores each layer under a generated name, with its true name in an attribute. A key here consists
    of the true names and the weight's index within its layer: `conv1_bn/0` is the first weight of `conv1_bn`.

    Raises:
        ValueError: if there are no weights, two weights have the same name, or the values of a weight are in
            another file.
        KeyError: if a layer has no name.
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

    # `visititems` visits each item once and follows no links, which could lead to other files or in a circle.
    file.visititems(visit)
    if not datasets:
        raise ValueError("no weights in `layers`")
    return datasets


def layers_of_class(file, name):
    """Returns the set of the names of the outermost layers of a class in an open `.weights.h5` file.

    Args:
        file: `h5py.File`.
        name: the class's name as Keras writes it, `"tsm_block"` for `TSMBlock`.
    """
    import h5py

    layers = file["layers"]
    # Keras calls the groups of a class `tsm_block`, `tsm_block_1` and so on. Links could lead to other files.
    groups = [
        group
        for group in layers
        if re.fullmatch(rf"{name}(_\d+)?", group)
        and isinstance(layers.get(group, getlink=True), h5py.HardLink)
    ]
    return {str(layers[group]["vars"].attrs["name"]) for group in groups}


def read_dataset(dataset):
    """Returns the array of a dataset from `find_datasets`."""
    array = np.asarray(dataset[()])
    # HDF5 has no bfloat16. Keras stores the raw bytes, and the dtype in an attribute.
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array
