"""What the processes of the benchmark have in common: they prepare steps, time them and measure memory."""

import ctypes
import gc
import math
import os
import time
import types

import numpy as np

# The branches of the residual blocks; TSM's block is another.
BRANCHES = {"TSN": (), "CSTM": ("cstm",), "CMM": ("cmm",), "STM": ("cstm", "cmm")}
NETWORKS = ("TSN", "TSM", "CSTM", "CMM", "STM")
# Of Something-Something, for which the paper counts its operations.
CLASSES = 174


def reduction(width):
    """CMM's, the paper's 16 where the network is wide enough for it."""
    return min(16, width)


class Steps:
    """Steps of one setting by their keys.

    Args:
        **options: `depths`, `width` and `image_size` of the networks, `mixed_precision` ("none" or
            "bfloat16"), `jit_compile` (`None` for what is fast), and `least_seconds`: a step that is shorter
            is repeated for so long whenever it is timed.
    """

    on_gpu = False

    def __init__(self, **options):
        self.options = types.SimpleNamespace(**options)
        self.steps = {}
        self._batch = None

    def make_step(self, task, kind, network, frames, batch, path):
        """A function that runs a step and waits for its result.

        Args:
            task: "inference" or "training".
            kind: how the network is run, see `networks.KINDS`.
            network: any of `NETWORKS`.
            frames, batch: of the clips.
            path: what `kind` reads of our own export, or `None`.
        """
        raise NotImplementedError

    def make_batch(self, frames, batch):
        """Clips `(batch, frames, size, size, 3)` and labels `(batch,)`, the same for a whole setting."""
        if self._batch is None:
            rng = np.random.default_rng(0)
            shape = (batch, frames, self.options.image_size, self.options.image_size, 3)
            self._batch = rng.standard_normal(shape, "float32"), rng.integers(0, CLASSES, batch)
        return self._batch

    def is_on_gpu(self):
        return self.on_gpu

    def prepare(self, key, **arguments):
        step = self.make_step(**arguments)
        # The first call compiles.
        step()
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        self.steps[key] = step, max(1, math.ceil(self.options.least_seconds / seconds))

    def time(self, key):
        """Seconds of a step."""
        step, calls = self.steps[key]
        start = time.perf_counter()
        for _ in range(calls):
            step()
        return (time.perf_counter() - start) / calls

    def memory(self, key, **arguments):
        """MiB at the peak of a step beyond what the process held before its first, `None` where not known.

        What an allocator keeps from step to step counts, and so the process must not have run others.
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
            file.write("5")  # the peak starts from here
        step()
        return (_read_status("VmHWM") - before) / 1024

    def clear(self):
        self.steps.clear()
        self._batch = None
        gc.collect()
        release_memory()


def release_memory():
    """Gives back what the C library keeps for later, so that it counts where it is used."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # not glibc


def _read_status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
