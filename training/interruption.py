"""Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away, end a training after a step."""

import os
import signal
import sys

import keras


class Interruption(keras.callbacks.Callback):
    """Ends a training by `KeyboardInterrupt` after the step in which a signal came.

    All processes end after the same one.

    Raised at once it could come anywhere, also where a library loses it, and the other processes would wait
    for this one's part of a step. A second Ctrl-C is raised at once all the same.

    Args:
        devices: `distribution.Devices`.
    """

    def __init__(self, devices):
        super().__init__()
        self._devices = devices
        self._is_received = False
        self._steps = 0
        self._before = {}

    def __enter__(self):
        # Several processes of JAX agree on the step at which they end, and it takes SIGTERM for that.
        numbers = [signal.SIGINT] if self._devices.num_processes > 1 else [signal.SIGINT, signal.SIGTERM]
        for number in numbers:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind, error, trace):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._is_received and kind is None:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self.check()

    def check(self):
        """Called between steps, in all processes between the same ones."""
        self._steps += 1
        if self._devices.agree_to_stop(self._steps, self._is_received):
            raise KeyboardInterrupt

    def _receive(self, number, frame):
        if self._is_received:
            signal.default_int_handler(number, frame)
        self._is_received = True
        print("\nStopping after this step. Ctrl-C stops at once.", file=sys.stderr)
        if self._devices.num_processes > 1:
            os.kill(os.getpid(), signal.SIGTERM)
