"""Reads the tensors of PyTorch checkpoints, without running code that a file may contain."""

import pickle
import zipfile

from keras_stm.weights import files

# Entries that hold the weights, first those to prefer. timm tests with the averaged weights of these names.
# mmengine's EMAHook swaps the two copies before it saves: its averaged weights, which mmaction2 tests with,
# are in `state_dict`, and the last step's weights are in `ema_state_dict`.
_ENTRIES = ("state_dict_ema", "model_ema", "state_dict")


class _Inert:
    """Stands for an object in a checkpoint that is no tensor. It ignores all that it is made of."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __setstate__(self, state):
        pass


# What training code stores beside the weights: NumPy's scalars and arrays, and the histories of mmengine's
# message hub. `getattr` is how a pickle refers to a method of such a history. None of these is called: a
# stand-in takes the place of each, because NumPy's own constructors trust their arguments.
_STAND_INS = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"mmengine.logging.{module}HistoryBuffer" for module in ("", "history_buffer.")),
    "builtins.getattr",
)


def read_torch(path):
    """Returns `{name: array}` of a PyTorch checkpoint: a dictionary of tensors, alone or as one entry."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading {path} requires PyTorch. Run `pip install torch`, or convert the file to .safetensors."
        ) from error
    stand_ins = [(type(f"_{name}", (_Inert,), {}), name) for name in _STAND_INS]
    try:
        with open(path, "rb") as file:
            is_checkpoint = file.read(2).startswith((b"PK", b"\x80"))  # a zip file or a pickle
        if zipfile.is_zipfile(path):
            files.check_expansion(path)
            if _is_script(path):
                raise files.unreadable(
                    path,
                    "is TorchScript, not a PyTorch checkpoint. Save its weights: "
                    "torch.save(torch.jit.load(path).state_dict(), new)",
                )
        with torch.serialization.safe_globals(stand_ins):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, files.ArgumentError):
        raise
    except Exception as error:  # a damaged pickle raises many kinds of errors
        # Omit PyTorch's advice: it suggests to run the code in the file.
        if isinstance(error, pickle.UnpicklingError) and is_checkpoint:
            raise files.unreadable(
                path,
                "contains more than tensors and is not read, because it could run code. If you trust it, "
                "save the `state_dict` alone: "
                "torch.save(torch.load(path, weights_only=False)['state_dict'], new)",
            ) from error
        reason = error if isinstance(error, OSError | ValueError) else None
        raise files.unreadable(path, "is damaged or not a PyTorch checkpoint", reason) from error
    tensors = _find_tensors(path, checkpoint, torch.is_tensor)
    try:
        # A tensor can be much larger than its stored data, if it repeats them.
        files.check_stated(path, sum(tensor.nbytes for tensor in tensors.values()))
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in tensors.items()
        }
    except (ValueError, TypeError, RuntimeError) as error:
        raise files.unreadable(path, "contains tensors that are not plain arrays", error) from error


def _is_script(path):
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _find_tensors(path, checkpoint, is_tensor):
    """Returns the dictionary of tensors of a checkpoint: itself, or the entry that holds the weights."""

    def holds_tensors(value):
        return isinstance(value, dict) and all(
            isinstance(name, str) and is_tensor(tensor) for name, tensor in value.items()
        )

    if holds_tensors(checkpoint):
        return checkpoint
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    found = {name: value for name, value in entries.items() if value and holds_tensors(value)}
    for name in _ENTRIES:
        if name in found:
            return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise files.unreadable(
            path, f"contains several dictionaries of tensors ({', '.join(map(repr, found))}): save one alone"
        )
    raise files.unreadable(path, "contains no `state_dict` of tensors")
