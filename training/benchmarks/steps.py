"""Base class of all steps in worker processes: it prepares steps, times them and measures their memory."""

import ctypes
import gc
import math
import os
import time
import types

import numpy as np

# The branches of the residual blocks. TSM is missing, because it has another block.
BRANCHES = {"TSN": (), "CSTM": ("cstm",), "CMM": ("cmm",), "STM": ("cstm", "cmm")}
NETWORKS = ("TSN", "TSM", "CSTM", "CMM", "STM")
# Classes of Something-Something, the data set of the paper's operation counts.
CLASSES = 174


def reduction(width):
    """Returns the reduction of CMM: the paper's 16, or `width` if the network is narrower."""
    return min(16, width)


class Steps:
    """The prepared steps of one setting, by their keys.

    Args:
        **options: `depths`, `width` and `image_size` of the networks; `mixed_precision`, "none" or
            "bfloat16"; `jit_compile`, `None` for the faster choice; and `least_seconds`: each timing repeats
            a shorter step for this time.
    """

    on_gpu = False

    def __init__(self, **options):
        self.options = types.SimpleNamespace(**options)
        self.steps = {}
        self._batch = None

    def make_step(self, task, kind, network, frames, batch, path):
        """Returns a function that runs a step and waits for its result.

        Args:
            task: "inference" or "training".
            kind: how the network is run, see `networks.KINDS`.
            network: any of `NETWORKS`.
            frames: frames in a clip.
            batch: clips in a step.
            path: the file or folder of the export that `kind` reads, or `None`.
        """
        raise NotImplementedError

    def make_batch(self, frames, batch):
        """Returns clips `(batch, frames, size, size, 3)` and labels `(batch,)`, the same for all steps."""
        if self._batch is None:
            rng = np.random.default_rng(0)
            shape = (batch, frames, self.options.image_size, self.options.image_size, 3)
            self._batch = rng.standard_normal(shape, "float32"), rng.integers(0, CLASSES, batch)
        return self._batch

    def is_on_gpu(self):
        """Returns whether steps run on a GPU."""
        return self.on_gpu

    def prepare(self, key, **arguments):
        """Makes a step and finds out how often each timing must repeat it.

        Args:
            key: the step's key.
            **arguments: arguments of `make_step`.
        """
        step = self.make_step(**arguments)
        # The first call compiles.
        step()
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        self.steps[key] = step, max(1, math.ceil(self.options.least_seconds / seconds))

    def time(self, key):
        """Returns the seconds that a step takes."""
        step, calls = self.steps[key]
        start = time.perf_counter()
        for _ in range(calls):
            step()
        return (time.perf_counter() - start) / calls

    def memory(self, key, **arguments):
        """Returns the MiB at the peak of a step, minus the memory of the process before its first step.

        Memory that an allocator keeps between steps counts, so the process must not have run other steps.

        Args:
            key: the step's key, which is not used.
            **arguments: arguments of `make_step`.

        Returns:
            MiB, or `None` on a GPU or without Linux's `/proc`.
        """
        step = self.make_step(**arguments)
        if self.on_gpu or not os.access("/proc/self/clear_refs", os.W_OK):
            return None
        release_memory()
        before = _read_status("VmRSS")
        # The first call compiles.
        step()
        release_memory()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak
        step()
        return (_read_status("VmHWM") - before) / 1024

    def clear(self):
        """Removes all steps and their batch from memory."""
        self.steps.clear()
        self._batch = None
        gc.collect()
        release_memory()


def release_memory():
    """Returns the C library's unused memory to the system, so that it does not count."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # not glibc


def _read_status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
