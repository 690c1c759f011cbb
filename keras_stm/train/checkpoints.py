"""Files of a run's state after its last epochs and after its best one."""

import json
import os
import zipfile

import numpy as np

from keras_stm.replacing import replacing


class Checkpoints:
    """The folder of checkpoints of one run, each named for the number of epochs until it.

    Args:
        path: the folder; it need not exist.
        max_to_keep: how many of the last epochs are kept, beside the best one. An older one is what a run
            goes on from where the newest is damaged.
    """

    def __init__(self, path, max_to_keep=1):
        self.path = path
        self.max_to_keep = max_to_keep

    def save(self, arrays, history, best):
        """Keeps the whole state of training after an epoch.

        Args:
            arrays: list of arrays.
            history: one dictionary for each epoch so far.
            best: the epoch to keep beside the last ones, counted from 1.
        """
        os.makedirs(self.path, exist_ok=True)
        with replacing(self._file(len(history))) as path, open(path, "wb") as file:
            named = {str(i): array for i, array in enumerate(arrays)}
            np.savez(file, history=json.dumps(history), **named)
        # Later ones are of a run that was not taken up again, as they are damaged.
        last = [epoch for epoch in self._epochs() if epoch <= len(history)][: self.max_to_keep]
        for epoch in self._epochs():
            if epoch not in (best, *last):
                os.remove(self._file(epoch))

    def load(self, epoch=None):
        """Reads a checkpoint.

        Args:
            epoch: counted from 1; where it is `None`, the last that is not damaged.

        Returns:
            The arrays and the history, `(None, [])` where no epoch was completed.

        Raises:
            ValueError: all that there is to load is damaged.
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
                print(f"{line}: the run goes on from an epoch before.")
            return arrays, history
        if damaged:
            raise ValueError(f"{damaged[0]}. --overwrite starts the run anew.")
        return None, []

    def num_bytes(self):
        """Size of all that are there."""
        return sum(os.path.getsize(self._file(epoch)) for epoch in self._epochs())

    def _file(self, epoch):
        return os.path.join(self.path, f"{epoch:05}.npz")

    def _epochs(self):
        """Those that there are files of, the newest first."""
        names = os.listdir(self.path) if os.path.isdir(self.path) else []
        # Not what a process was writing when it was killed.
        return sorted((int(name[:-4]) for name in names if name[:-4].isdigit()), reverse=True)


def state(model):
    """All variables of a compiled model that its next step depends on: weights, random states, optimizer."""
    # Of `model.variables`, which also has the random states of dropout, not the metrics: they start
    # anew in each epoch.
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in metrics]
    return variables + model.optimizer.variables
