"""Reads weight files as dictionaries of arrays. Errors name the file."""

import io
import os
import zipfile

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError
from keras_stm.weights.network import published_block

KERAS_SUFFIXES = (".weights.h5", ".keras")
TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin")
SUFFIXES = (*KERAS_SUFFIXES, ".safetensors", *TORCH_SUFFIXES)
# Weights hardly compress. A file that expands by more than this factor is made to fill the memory.
_MAX_EXPANSION = 10


def check_expansion(path):
    """Raises `ValueError` if a zip archive would unpack to many times its size."""
    with zipfile.ZipFile(path) as archive:
        check_stated(path, sum(info.file_size for info in archive.infolist()))


def check_stated(path, stated):
    """Raises `ValueError` if the contents of a file, in bytes, are many times its size."""
    size = os.path.getsize(path)
    if stated > _MAX_EXPANSION * size:
        raise ValueError(f"it would be {stated:,} bytes in memory, but the file has {size:,}")


def read_keras(path):
    """Reads a `.weights.h5` or `.keras` file.

    Returns:
        `{owner's path/index: array}`, see `keras_compat.find_datasets`; and the set of the published names
        of the blocks with TSM's shift.
    """
    import h5py

    try:
        if path.endswith(".keras"):
            check_expansion(path)
            # Read only the weights: the configuration of an untrusted file could run code.
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read(keras_compat.WEIGHTS_OF_ARCHIVE))
        else:
            source = path
        with h5py.File(source, "r") as file:
            datasets = keras_compat.find_datasets(file)
            check_stated(path, sum(dataset.nbytes for dataset in datasets.values()))
            arrays = {name: keras_compat.read_dataset(dataset) for name, dataset in datasets.items()}
            return arrays, set(map(published_block, keras_compat.layers_of_class(file, "tsm_block")))
    except MemoryError:
        raise
    except Exception as error:  # h5py and zipfile raise many kinds of errors for a damaged file
        raise unreadable(path, "is damaged or contains no Keras weights", error) from error


def states_causal(path):
    """Returns whether a file says that its network is causal, or `None` if it cannot say so.

    Only files that this package writes say so.
    """
    if path.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return b'"causal": true' in archive.read("config.json")
    if path.endswith(".safetensors"):
        import safetensors

        with safetensors.safe_open(path, "numpy") as file:
            return "causal" in (file.metadata() or {})
    return None if path.endswith(KERAS_SUFFIXES) else False


def read_safetensors(path):
    """Returns `{name: array}` of a `.safetensors` file, without PyTorch."""
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise unreadable(path, "is damaged or not a safetensors file", error) from error


def unreadable(path, what, error=None):
    """Returns the `ArgumentError` for a weight file that cannot be read."""
    reason = f" ({str(error).splitlines()[0]})" if error and str(error) else ""
    return ArgumentError("weights", path, f"cannot be read: {os.path.basename(path)} {what}{reason}")
