"""Saves the weights of a model under the published names."""

import numpy as np

from keras_stm.arguments import ArgumentError, absolute_path, keras_model
from keras_stm.replacing import replacing
from keras_stm.weights import names
from keras_stm.weights.network import is_causal


def save_safetensors(model, path):
    """Writes a model's weights to a safetensors file with the names of the published PyTorch code.

    `load_weights` restores them exactly. The file is written completely or not at all.
    LoRA is merged into the kernels.

    Args:
        model: a model of this package.
        path: the file to write. It must end in `.safetensors`.

    Raises:
        ValueError: if `path` has another ending, or a weight of the model does not belong to this package.
    """
    import safetensors.numpy

    path = absolute_path("path", path)
    if not path.endswith(".safetensors"):
        raise ArgumentError("path", path, "must end in .safetensors")
    arrays = {
        name: np.ascontiguousarray(array) for name, array in names.arrays_to_save(keras_model(model)).items()
    }
    with replacing(path) as partial:
        safetensors.numpy.save_file(arrays, partial, {"causal": "true"} if is_causal(model) else None)
