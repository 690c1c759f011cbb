"""The folder of one run: what it holds, who may write into it, and how far the run has come."""

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess

import filelock
import keras

from keras_stm.class_names import to_lines
from keras_stm.differences import differences
from keras_stm.inference import MODEL
from keras_stm.model_file import CLASS_NAMES
from keras_stm.replacing import replacing
from keras_stm.train.checkpoints import Checkpoints
from keras_stm.version import __version__

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
LEFT_OUT = "left_out.txt"
# The epoch with the highest accuracy, where the model is another one's.
BEST_MODEL = "best.keras"
SERVING = os.path.join("serving", "1")
TENSORBOARD = "tensorboard"
# What later commands write into a run's folder.
EVALUATION = "evaluation"
ONNX = "model.onnx"
_CHECKPOINTS = "checkpoints"
LOCK = ".lock"
# All that a run writes, and so all that --overwrite may remove.
_CONTENTS = (
    *(CLASS_NAMES, HISTORY, CURVES, MODEL, BEST_MODEL, LEFT_OUT, "serving", TENSORBOARD, _CHECKPOINTS),
    *(EVALUATION, ONNX),
    CONFIG,  # last, and written first: without it nobody would know that the rest is a run's
)


class RunFolder:
    """A folder and the settings of the run that it belongs to.

    Args:
        path: the folder; it need not exist.
        settings: dictionary that JSON can hold. A folder belongs to the run that has the same.
        overwrite: whether an earlier run there may be removed.
        max_to_keep: how many of the last epochs' checkpoints are kept while it runs.
    """

    def __init__(self, path, settings, overwrite=False, max_to_keep=1):
        self.path = os.path.abspath(path)
        # As they will be read again: JSON knows no tuples.
        self.settings = json.loads(json.dumps(settings))
        self.overwrite = overwrite
        self._checkpoints = Checkpoints(self.file(_CHECKPOINTS), max_to_keep)

    def file(self, name):
        return os.path.join(self.path, name)

    def is_finished(self):
        """Whether this very run is complete there.

        Raises:
            ValueError: if the folder holds something else, or another run that may not be removed.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise ValueError(f"{self.path} is a file; give another folder with --output.")
        present = set(os.listdir(self.path)) if os.path.isdir(self.path) else set()
        visible = sorted(name for name in present if not name.startswith("."))
        foreign = sorted(set(visible) - set(_CONTENTS))
        if foreign or (visible and CONFIG not in present):
            raise ValueError(
                f"{self.path} is not the folder of a run, as it holds {(foreign or visible)[0]}; give "
                "another one with --output."
            )
        if self.overwrite or CONFIG not in present:
            return False
        try:
            with open(self.file(CONFIG)) as file:
                theirs = dict(json.load(file)["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file(CONFIG)} is damaged ({error!r}); give another folder with --output, or replace "
                "the run with --overwrite."
            ) from error
        different = differences(theirs, self.settings)
        if len(different) == 1 and different[0].startswith("clips "):
            raise ValueError(
                f"{self.path} holds a run on other clips: some were changed, added or lost since "
                f"({'; '.join(different)}). Restore them to go on, give another folder with --output, or "
                "replace that run with --overwrite."
            )
        if different:
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}); give another folder "
                "with --output, or replace that run with --overwrite."
            )
        return os.path.isdir(self.file(SERVING))

    @contextlib.contextmanager
    def lock(self):
        """Keeps other processes out; the system frees the lock when this one dies, however it does.

        Raises:
            ValueError: if another process writes into the folder.
        """
        os.makedirs(self.path, exist_ok=True)
        lock = filelock.FileLock(self.file(LOCK))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"Another process is writing into {self.path}; wait for it, or give another folder with "
                "--output."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, class_names, state_bytes=0, model_bytes=0):
        """Writes what is known at the start; removes the run to be overwritten.

        Args:
            class_names: names of the classes.
            state_bytes: size of a checkpoint.
            model_bytes: size of a model's weights.

        Raises:
            ValueError: the disk has not the space that the run will need.
        """
        # The checkpoints of the last epochs, the best one's, and one that is being written; then both models
        # and the one for serving.
        needed = (self._checkpoints.max_to_keep + 2) * state_bytes + 3 * model_bytes
        free = shutil.disk_usage(self.path).free + self._checkpoints.num_bytes()
        if free < needed:
            raise ValueError(
                f"{self.path} is on a disk with {free / 1e6:,.0f} MB free; checkpoints and models will take "
                f"{needed / 1e6:,.0f}. Make room, lower --max_to_keep, or give another folder with --output."
            )
        if self.overwrite:
            for name in _CONTENTS:
                path = self.file(name)
                shutil.rmtree(path) if os.path.isdir(path) else _remove(path)
        record = {"settings": self.settings, **environment()}
        with self.replacing(CONFIG) as path, open(path, "w") as file:
            json.dump(record, file, indent=2)
        with self.replacing(CLASS_NAMES) as path, open(path, "wb") as file:
            file.write(to_lines(class_names))

    def replacing(self, name):
        """Gives a path to write; what is there becomes `name` once the block ends without an error."""
        return replacing(self.file(name))

    def save_checkpoint(self, arrays, history, best):
        """Keeps the whole state of training after an epoch; see `Checkpoints.save`."""
        self._checkpoints.save(arrays, history, best)
        self._write_history(history)

    def load_checkpoint(self, epoch=None):
        """The state after the last or another epoch; see `Checkpoints.load`."""
        arrays, history = self._checkpoints.load(epoch)
        if history and epoch is None:
            # The process may have died between the checkpoint and the table.
            self._write_history(history)
        return arrays, history

    def add_left_out(self, reasons):
        """Adds clips that could not be read, `{path: reason}`, to those of the run so far."""
        lines = {}
        if os.path.exists(self.file(LEFT_OUT)):
            with open(self.file(LEFT_OUT), encoding="utf-8") as file:
                lines = dict.fromkeys(file.read().splitlines())
        if not lines.keys() >= set(reasons.values()):
            lines.update(dict.fromkeys(reasons.values()))
            with self.replacing(LEFT_OUT) as path, open(path, "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)

    def drop_checkpoints(self):
        """Removes what only an unfinished run needs."""
        shutil.rmtree(self.file(_CHECKPOINTS), ignore_errors=True)

    def _write_history(self, history):
        with self.replacing(HISTORY) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, history[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def environment(commit=None):
    """Versions, hardware and commit, found if not given: what a result may depend on beside the settings."""
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras_stm": __version__}
    for name in ("keras", "numpy", "av", "tensorflow", backend):
        # What reads no video and trains without tf.data needs not all of them.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "backend": backend,
        "versions": versions,
        "commit": commit or find_commit(),
        "hardware": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "devices": _devices(backend),
        },
    }


def find_commit():
    """The commit of the code, with "-dirty" behind it where it was changed since, or `None`.

    Of an installed package it is `None`, also where a repository of something else encloses it.
    """
    folder = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments):
        with contextlib.suppress(FileNotFoundError):
            return subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True
            ).stdout.strip()
        return ""

    if not git("ls-files", os.path.basename(__file__)):
        return None
    return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") or None


def _processor():
    # Python knows its name on few systems.
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _devices(backend):
    if backend != "torch":
        return keras.distribution.list_devices()
    # Keras does not list PyTorch's.
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"]
