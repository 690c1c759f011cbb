"""The clips of a data set that could not be read while it was in use."""

import threading

from absl import logging

from keras_stm.arguments import ArgumentError

_LISTED = 20


class LeftOut:
    """Names each clip that cannot be read once, counts them, and stops where they are too many.

    Args:
        num_clips: clips in the data set.
        max_unreadable: the share of them, from 0 to 1, that may be unreadable.
        log: function that takes the line about a clip; `absl.logging.warning` where it is `None`.

    Attributes:
        reasons: dictionary of path -> what is wrong, starting with the path, in the order found.
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
        """Counts a clip, then does what `check` does."""
        with self._lock:
            if path not in self.reasons:
                self.reasons[path] = str(error)
                self._log(f"Left out: {error}")
        self.check()

    def check(self):
        """Raises `ValueError` with a list of the clips where there are more than `max_unreadable`."""
        count = len(self.reasons)
        if count > self.max_unreadable * self.num_clips:
            listed = list(self.reasons.values())[:_LISTED]
            more = [f"and {count - len(listed)} more"] if count > len(listed) else []
            raise ValueError(
                "\n  ".join([f"{count} of {self.num_clips} clips cannot be read:", *listed, *more])
                + f"\nReceived: max_unreadable={self.max_unreadable!r}"
            )
