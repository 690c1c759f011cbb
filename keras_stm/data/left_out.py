"""Records the clips that turn out to be unreadable while a data set is in use."""

import threading

from absl import logging

from keras_stm.arguments import ArgumentError

_LISTED = 20


class LeftOut:
    """Logs each unreadable clip once; raises above `max_unreadable`.

    Args:
        num_clips: number of clips in the data set.
        max_unreadable: share of the clips that may be unreadable, from 0 to 1.
        log: function that logs the line about a clip; `None` is `absl.logging.warning`.

    Attributes:
        reasons: dictionary of path -> error message, which starts with the path. Its order is the order
            in which the clips were found.
    """

    def __init__(self, num_clips, max_unreadable=0.5, log=None):
        if not 0 <= max_unreadable <= 1:
            raise ArgumentError("max_unreadable", max_unreadable, "must be from 0 to 1")
        self.num_clips = num_clips
        self.max_unreadable = max_unreadable
        self.reasons = {}
        self._log = log or logging.warning
        # Clips are read by several threads.
        self._lock = threading.Lock()

    def add(self, path, error):
        """Records an unreadable clip, then calls `check`."""
        with self._lock:
            if path not in self.reasons:
                self.reasons[path] = str(error)
                self._log(f"Skipped: {error}")
        self.check()

    def check(self):
        """Raises `ValueError` with a list of the unreadable clips if their share exceeds `max_unreadable`."""
        count = len(self.reasons)
        if count > self.max_unreadable * self.num_clips:
            listed = list(self.reasons.values())[:_LISTED]
            more = [f"and {count - len(listed)} more"] if count > len(listed) else []
            raise ValueError(
                "\n  ".join([f"{count} of {self.num_clips} clips cannot be read:", *listed, *more])
                + f"\nReceived: max_unreadable={self.max_unreadable!r}"
            )
