"""The folder of one run: its files, the lock for writing, and the progress of the run."""

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
from keras_stm.export.device import EXPORTS
from keras_stm.file_names import open_text, utf8_path
from keras_stm.inference import MODEL
from keras_stm.model_file import CLASS_NAMES
from keras_stm.replacing import replacing
from keras_stm.train.checkpoints import Checkpoints
from keras_stm.version import __version__

CONFIG = "config.json"
HISTORY = "history.csv"
CURVES = "curves.png"
LEFT_OUT = "left_out.txt"
# The model of the best epoch by `early_stopping_metric`, if that is not the saved model's epoch.
BEST_MODEL = "best.keras"
SERVING = os.path.join("serving", "1")
TENSORBOARD = "tensorboard"
# Later commands write these into a run's folder.
EVALUATION = "evaluation"
WEB = "web"
_CHECKPOINTS = "checkpoints"
LOCK = ".lock"
# All files that a run writes; `overwrite` removes only these.
_CONTENTS = (
    *(CLASS_NAMES, HISTORY, CURVES, MODEL, BEST_MODEL, LEFT_OUT, "serving", TENSORBOARD, _CHECKPOINTS),
    *(EVALUATION, EXPORTS, WEB),
    CONFIG,  # removed last and written first: it marks the folder as a run's
)


class RunFolder:
    """A folder and the settings of the run that it belongs to.

    Args:
        path: the folder; it need not exist.
        settings: dictionary for JSON. The folder belongs to the run with the same settings.
        overwrite: whether an earlier run in the folder may be removed.
        max_to_keep: number of last epochs whose checkpoints are kept while it runs.

    Raises:
        ValueError: the path is not UTF-8.
    """

    def __init__(self, path, settings, overwrite=False, max_to_keep=1):
        self.path = utf8_path("output", os.path.abspath(path))
        # JSON turns tuples into lists; compare the form that will be read back.
        self.settings = json.loads(json.dumps(settings))
        self.overwrite = overwrite
        self._checkpoints = Checkpoints(self.file(_CHECKPOINTS), max_to_keep)

    def file(self, name):
        """Returns the path of a file in the folder."""
        return os.path.join(self.path, name)

    def is_finished(self):
        """Returns whether the folder holds this run, finished.

        Raises:
            ValueError: the folder holds something else, or another run that may not be removed.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise ValueError(f"{self.path} is a file; pass another `output`.")
        present = set(os.listdir(self.path)) if os.path.isdir(self.path) else set()
        visible = sorted(name for name in present if not name.startswith("."))
        foreign = sorted(set(visible) - set(_CONTENTS))
        if foreign or (visible and CONFIG not in present):
            raise ValueError(
                f"{self.path} is not the folder of a run: it holds {(foreign or visible)[0]}; pass another "
                "`output`."
            )
        if self.overwrite or CONFIG not in present:
            return False
        try:
            with open(self.file(CONFIG)) as file:
                theirs = dict(json.load(file)["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file(CONFIG)} is damaged ({error!r}); pass another `output`, or set `overwrite` to "
                "replace the run."
            ) from error
        different = differences(theirs, self.settings)
        if len(different) == 1 and different[0].startswith("clips "):
            raise ValueError(
                f"{self.path} holds a run on other clips: some were changed, added or lost since then "
                f"({'; '.join(different)}). Restore them to resume it, pass another `output`, or set "
                "`overwrite` to replace that run."
            )
        if different:
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}); pass another "
                "`output`, or set `overwrite` to replace that run."
            )
        return os.path.isdir(self.file(SERVING))

    @contextlib.contextmanager
    def lock(self):
        """Keeps other processes out; the system frees the lock when this process ends, even if killed.

        Raises:
            ValueError: another process is writing into the folder.
        """
        os.makedirs(self.path, exist_ok=True)
        lock = filelock.FileLock(self.file(LOCK))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"Another process is writing into {self.path}; wait for it, or pass another `output`."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, class_names, state_bytes=0, model_bytes=0):
        """Writes the files of the start; removes an earlier run if `overwrite` is set.

        Args:
            class_names: names of the classes.
            state_bytes: size of a checkpoint.
            model_bytes: size of a model's weights.

        Raises:
            ValueError: the disk has too little space for the run.
        """
        # Checkpoints: the last epochs, the best one, and one that is being written. Models: the last, the
        # best and the one for serving.
        needed = (self._checkpoints.max_to_keep + 2) * state_bytes + 3 * model_bytes
        free = shutil.disk_usage(self.path).free + self._checkpoints.num_bytes()
        if free < needed:
            raise ValueError(
                f"{self.path} is on a disk with {free / 1e6:,.0f} MB free; checkpoints and models need "
                f"{needed / 1e6:,.0f} MB. Make room, lower `max_to_keep`, or pass another `output`."
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
        """Yields a path to write to; the file becomes `name` if the block ends without an error."""
        return replacing(self.file(name))

    def save_checkpoint(self, arrays, history, best):
        """Saves the whole training state after an epoch; see `Checkpoints.save`."""
        self._checkpoints.save(arrays, history, best)
        self._write_history(history)

    def load_checkpoint(self, epoch=None):
        """Loads the training state after the last or a given epoch; see `Checkpoints.load`."""
        arrays, history = self._checkpoints.load(epoch)
        if history and epoch is None:
            # The process may have died between writing the checkpoint and writing the table.
            self._write_history(history)
        return arrays, history

    def add_left_out(self, reasons):
        """Adds unreadable clips, `{path: reason}`, to the run's list of them."""
        lines = {}
        if os.path.exists(self.file(LEFT_OUT)):
            with open_text(self.file(LEFT_OUT)) as file:
                lines = dict.fromkeys(file.read().splitlines())
        if not lines.keys() >= set(reasons.values()):
            lines.update(dict.fromkeys(reasons.values()))
            with self.replacing(LEFT_OUT) as path, open_text(path, "w") as file:
                file.writelines(f"{line}\n" for line in lines)

    def drop_checkpoints(self):
        """Removes the checkpoints: only an unfinished run needs them."""
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
    """Returns backend, versions, commit (found if not given) and hardware, which may affect a result."""
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras_stm": __version__}
    for name in ("keras", "numpy", "av", "tensorflow", backend):
        # Not all of them need to be installed: some uses read no video and train without tf.data.
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
    """Returns the commit of the code, with "-dirty" after it if there are uncommitted changes, or `None`.

    It is `None` for an installed package, even within the repository of another project.
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
    # Python knows the processor's name only on a few systems.
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _devices(backend):
    if backend != "torch":
        return keras.distribution.list_devices()
    # Keras does not list PyTorch's devices.
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"]
