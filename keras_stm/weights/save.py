import numpy as np
from keras import ops

from keras_stm.arguments import ArgumentError, absolute_path, keras_model
from keras_stm.replacing import replacing
from keras_stm.weights import names


def save_safetensors(model, path):
    """Writes a model's weights as safetensors with the names of the published PyTorch code.

    `load_weights` reads them back exactly. The file is complete or not there at all.

    Args:
        model: a model of this package.
        path: where to write, ending in `.safetensors`.

    Raises:
        ValueError: if `path` ends otherwise, or the model has weights that are not of this package.
    """
    import safetensors.numpy

    path = absolute_path("path", path)
    if not path.endswith(".safetensors"):
        raise ArgumentError("path", path, "must end in .safetensors")
    arrays = {
        name: np.ascontiguousarray(names.to_reference(variable.path, ops.convert_to_numpy(variable)))
        for name, variable in names.reference_names(keras_model(model)).items()
    }
    with replacing(path) as partial:
        safetensors.numpy.save_file(arrays, partial)
