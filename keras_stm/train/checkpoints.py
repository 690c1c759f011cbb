"""Checkpoint files: the training state after a run's last epochs and after its best epoch."""

import json
import os
import zipfile

import numpy as np

from keras_stm.progress import tell
from keras_stm.replacing import replacing


class Checkpoints:
    """The folder of checkpoints of one run; each file is named after the number of epochs trained.

    Args:
        path: the folder; it need not exist.
        max_to_keep: number of last epochs whose checkpoints are kept, in addition to the best epoch's. A run
            resumes from an older checkpoint if the newest is damaged.
    """

    def __init__(self, path, max_to_keep=1):
        self.path = path
        self.max_to_keep = max_to_keep

    def save(self, arrays, history, best):
        """Saves the whole training state after an epoch.

        Args:
            arrays: list of arrays.
            history: list of one dictionary for each epoch so far.
            best: the epoch to keep in addition to the last ones, counted from 1.
        """
        os.makedirs(self.path, exist_ok=True)
        with replacing(self._file(len(history))) as path, open(path, "wb") as file:
            named = {str(i): array for i, array in enumerate(arrays)}
            np.savez(file, history=json.dumps(history), **named)
        # Checkpoints of later epochs are damaged: the run resumed from an earlier one.
        last = [epoch for epoch in self._epochs() if epoch <= len(history)][: self.max_to_keep]
        for epoch in self._epochs():
            if epoch not in (best, *last):
                os.remove(self._file(epoch))

    def load(self, epoch=None):
        """Reads a checkpoint.

        Args:
            epoch: the epoch to load, counted from 1. `None` loads the last one that is not damaged.

        Returns:
            The arrays and the history; `(None, [])` if no epoch was completed.

        Raises:
            ValueError: the checkpoint, or each of them, is damaged.
        """
        damaged = []
        for number in self._epochs() if epoch is None else [epoch]:
            path = self._file(number)
            try:
                with np.load(path) as file:
                    arrays = [file[str(i)] for i in range(len(file.files) - 1)]
                    history = json.loads(str(file["history"]))
            except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
                damaged.append(f"{path} is damaged ({error})")
                continue
            for line in damaged:
                tell(f"{line}: the run resumes from an earlier epoch.")
            return arrays, history
        if damaged:
            raise ValueError(f"{damaged[0]}. Set `overwrite` to restart the run.")
        return None, []

    def num_bytes(self):
        """Returns the total size of the checkpoints in bytes."""
        return sum(os.path.getsize(self._file(epoch)) for epoch in self._epochs())

    def _file(self, epoch):
        return os.path.join(self.path, f"{epoch:05}.npz")

    def _epochs(self):
        """Returns the epochs that have a checkpoint, newest first."""
        names = os.listdir(self.path) if os.path.isdir(self.path) else []
        # Skips the partial file of a process that was killed: its name is not a number.
        return sorted((int(name[:-4]) for name in names if name[:-4].isdigit()), reverse=True)


def state(model):
    """Returns all variables that a compiled model's next step needs: weights, random states, optimizer."""
    # `model.variables` includes the random states of dropout. Metrics are excluded: they restart in each
    # epoch.
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in metrics]
    return variables + model.optimizer.variables
