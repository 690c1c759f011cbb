"""Files of a run's state after its last epochs and after its best one."""

import json
import os
import zipfile

import numpy as np

from keras_stm.replacing import replacing

_BEST = "best.npz"


class Checkpoints:
    """The folder of checkpoints of one run.

    Args:
        path: the folder; it need not exist.
        max_to_keep: how many of the last epochs are kept. An older one is what a run goes on from where
            the newest is damaged.
    """

    def __init__(self, path, max_to_keep=1):
        self.path = path
        self.max_to_keep = max_to_keep

    def save(self, arrays, history, is_best):
        """Keeps the whole state of training after an epoch.

        Args:
            arrays: list of arrays.
            history: one dictionary for each epoch so far.
            is_best: whether this epoch is the best so far.
        """
        os.makedirs(self.path, exist_ok=True)
        for name in (_BEST, f"{len(history):05}.npz") if is_best else (f"{len(history):05}.npz",):
            with replacing(os.path.join(self.path, name)) as path, open(path, "wb") as file:
                named = {str(i): array for i, array in enumerate(arrays)}
                np.savez(file, history=json.dumps(history), **named)
        for name in self._last()[self.max_to_keep :]:
            os.remove(os.path.join(self.path, name))

    def load(self, best=False):
        """Reads the last, or the best, epoch.

        Returns:
            The arrays and the history, `(None, [])` where no epoch was completed.

        Raises:
            ValueError: all that there is to load is damaged.
        """
        damaged = []
        for name in [_BEST] if best else self._last():
            path = os.path.join(self.path, name)
            try:
                with np.load(path) as file:
                    arrays = [file[str(i)] for i in range(len(file.files) - 1)]
                    history = json.loads(str(file["history"]))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                damaged.append(f"{path} is damaged ({error})")
                continue
            for line in damaged:
                print(f"{line}: the run goes on from the epoch before.")
            return arrays, history
        if damaged:
            raise ValueError(f"{damaged[0]}. --overwrite starts the run anew.")
        return None, []

    def num_bytes(self):
        """Size of all that are there."""
        return sum(entry.stat().st_size for entry in os.scandir(self.path)) if os.path.isdir(self.path) else 0

    def _last(self):
        """Names of the files of the last epochs, the newest first."""
        if not os.path.isdir(self.path):
            return []
        return sorted((name for name in os.listdir(self.path) if name[:5].isdigit()), reverse=True)
