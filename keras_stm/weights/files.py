"""Weight files as dictionaries of arrays. What is wrong with a file is said with its name."""

import io
import os
import pickle
import zipfile

KERAS_SUFFIXES = (".weights.h5", ".keras")
TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
SUFFIXES = (*KERAS_SUFFIXES, ".safetensors", *TORCH_SUFFIXES)


def read_keras(path):
    """`{owner's path/index: array}` of a `.weights.h5` or `.keras` file.

    Keras stores layers under generated names, and the true name of each beside it: a weight's key here
    is made of the true names and its index within its layer, `conv1_bn/0` for the first of `conv1_bn`.
    """
    import h5py

    try:
        if path.endswith(".keras"):
            # The weights alone: a configuration from elsewhere is not run.
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        else:
            source = path
        with h5py.File(source, "r") as file:
            arrays = {}
            for group in file["layers"].values():
                _collect(group, "", arrays)
            return arrays
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise _unreadable(path, "is damaged or holds no Keras weights", error) from error


def _collect(group, parent, arrays):
    import h5py

    if "vars" not in group:
        return
    name = group["vars"].attrs["name"]
    path = f"{parent}{name}/"
    for index, dataset in group["vars"].items():
        arrays[f"{path}{index}"] = dataset[()]
    for key, child in group.items():
        if key != "vars" and isinstance(child, h5py.Group):
            _collect(child, path, arrays)


def read_safetensors(path):
    """`{name: array}` of a `.safetensors` file; needs no PyTorch."""
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise _unreadable(path, "is damaged or not a safetensors file", error) from error


def read_torch(path):
    """`{name: array}` of a PyTorch checkpoint, out of its `state_dict` where it is wrapped in one."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs PyTorch: `pip install torch`, or convert it to .safetensors."
        ) from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        with open(path, "rb") as file:
            is_checkpoint = file.read(2).startswith((b"PK", b"\x80"))  # a zip file or a pickle
        # PyTorch's own advice is left out: it is to run what the file says.
        if isinstance(error, pickle.UnpicklingError) and is_checkpoint:
            raise _unreadable(
                path,
                "holds more than tensors and is not read, as it could run code. Whoever trusts it can save "
                "the `state_dict` alone: torch.save(torch.load(path, weights_only=False)['state_dict'], new)",
            ) from error
        raise _unreadable(path, "is damaged or not a PyTorch checkpoint") from error
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    if not isinstance(checkpoint, dict) or not all(map(torch.is_tensor, checkpoint.values())):
        raise _unreadable(path, "holds no `state_dict` of tensors")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in checkpoint.items()
    }


def _unreadable(path, what, error=None):
    reason = f" ({str(error).splitlines()[0]})" if error and str(error) else ""
    return ValueError(f"{os.path.basename(path)} {what}{reason}. Received: weights={path!r}")
