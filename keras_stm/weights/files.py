"""Reads weight files as dictionaries of arrays. Errors name the file."""

import io
import os
import pickle
import zipfile

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError

KERAS_SUFFIXES = (".weights.h5", ".keras")
TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
SUFFIXES = (*KERAS_SUFFIXES, ".safetensors", *TORCH_SUFFIXES)
# Weights hardly compress. A file that expands by more than this factor is made to fill the memory.
_MAX_EXPANSION = 10


def check_expansion(path):
    """Raises `ValueError` if a zip archive would unpack to many times its size."""
    with zipfile.ZipFile(path) as archive:
        _check_stated(path, sum(info.file_size for info in archive.infolist()))


def _check_stated(path, stated):
    size = os.path.getsize(path)
    if stated > _MAX_EXPANSION * size:
        raise ValueError(f"it would be {stated:,} bytes in memory, but the file has {size:,}")


def read_keras(path):
    """Returns `{owner's path/index: array}` of a `.weights.h5` or `.keras` file.

    See `keras_compat.find_datasets` for the keys.
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
            _check_stated(path, sum(dataset.nbytes for dataset in datasets.values()))
            return {name: keras_compat.read_dataset(dataset) for name, dataset in datasets.items()}
    except MemoryError:
        raise
    except Exception as error:  # h5py and zipfile raise many kinds of errors for a damaged file
        raise unreadable(path, "is damaged or contains no Keras weights", error) from error


def read_safetensors(path):
    """Returns `{name: array}` of a `.safetensors` file, without PyTorch."""
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise unreadable(path, "is damaged or not a safetensors file", error) from error


def read_torch(path):
    """Returns `{name: array}` of a PyTorch checkpoint, from its entry `state_dict` if it has one."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading {path} requires PyTorch. Run `pip install torch`, or convert the file to .safetensors."
        ) from error
    try:
        with open(path, "rb") as file:
            is_checkpoint = file.read(2).startswith((b"PK", b"\x80"))  # a zip file or a pickle
        if zipfile.is_zipfile(path):
            check_expansion(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises many kinds of errors
        # Omit PyTorch's advice: it suggests to run the code in the file.
        if isinstance(error, pickle.UnpicklingError) and is_checkpoint:
            raise unreadable(
                path,
                "contains more than tensors and is not read, because it could run code. If you trust it, "
                "save the `state_dict` alone: "
                "torch.save(torch.load(path, weights_only=False)['state_dict'], new)",
            ) from error
        reason = error if isinstance(error, OSError | ValueError) else None
        raise unreadable(path, "is damaged or not a PyTorch checkpoint", reason) from error
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    if not isinstance(checkpoint, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in checkpoint.items()
    ):
        raise unreadable(path, "contains no `state_dict` of tensors")
    try:
        # A tensor can be much larger than its stored data, if it repeats them.
        _check_stated(path, sum(tensor.nbytes for tensor in checkpoint.values()))
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in checkpoint.items()
        }
    except (ValueError, TypeError, RuntimeError) as error:
        raise unreadable(path, "contains tensors that are not plain arrays", error) from error


def unreadable(path, what, error=None):
    """Returns the `ArgumentError` for a weight file that cannot be read."""
    reason = f" ({str(error).splitlines()[0]})" if error and str(error) else ""
    return ArgumentError("weights", path, f"cannot be read: {os.path.basename(path)} {what}{reason}")
