"""fit.py with a narrow model, as a process that tests start, kill and start again.

LOGICAL_CPUS=2 splits the processor into as many devices, under TensorFlow. KILL=step:5 ends the process as
kill -9 does after the fifth step that it trains, KILL=write:2 halfway through its second checkpoint file;
KILL_SIGNAL=SIGTERM sends another signal there.
"""

import importlib.util
import itertools
import os
import signal
import sys
import time

if importlib.util.find_spec("torch") and os.environ.get("KERAS_BACKEND") == "torch":
    import torch

    # Several processes of tests share the processor.
    torch.set_num_threads(1)

import numpy as np
import tensorflow as tf
from absl import app

import config
import fit
import keras_stm
import train
from tests.training.small_runs import NARROW


def kill_after(count, function):
    """`function`, but that the process is sent a signal at the end of its call number `count`."""
    number = signal.Signals[os.environ.get("KILL_SIGNAL", "SIGKILL")]
    calls = itertools.count(1)

    def wrapper(*args, **kwargs):
        result = function(*args, **kwargs)
        if next(calls) == count:
            os.kill(os.getpid(), number)
            # JAX looks for a signal once a second, in which this narrow model takes many steps.
            time.sleep(2)
        return result

    return wrapper


def write_half(file, **arrays):
    savez(file, **arrays)
    size = file.tell()
    file.truncate(size // 2)


if __name__ == "__main__":
    cpus = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * int(os.environ.get("LOGICAL_CPUS", 1))
    tf.config.set_logical_device_configuration(cpus, logical)
    config.MODELS["stm_small"] = NARROW
    # The export is the same whatever trained, and takes longer than that.
    keras_stm.export.save = lambda model, path, *args, **kwargs: os.makedirs(path)
    what, _, count = os.environ.get("KILL", "").partition(":")
    if what == "step":
        train._FiniteLoss.on_train_batch_end = kill_after(int(count), train._FiniteLoss.on_train_batch_end)
    if what == "write":
        savez, calls = np.savez, iter(range(1, int(count)))
        killed = kill_after(1, write_half)
        np.savez = lambda *args, **arrays: (savez if next(calls, None) else killed)(*args, **arrays)
    sys.argv[0] = "fit.py"
    app.run(fit.main)
