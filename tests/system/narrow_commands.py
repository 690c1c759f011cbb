"""Runs commands with a narrow model one after another, in a process that tests start, kill and restart.

python tests/system/narrow_commands.py fit.py --output=a --epochs=1 -- evaluate.py --model=a

LOGICAL_CPUS=2 splits the processor into two devices under TensorFlow. KILL=step:5 kills the process, like
kill -9, after its fifth training step. KILL=write:2 kills it when half of its second checkpoint file is
written. KILL_SIGNAL=SIGTERM sends SIGTERM instead of SIGKILL.
"""

import functools
import importlib.util
import itertools
import os
import signal
import sys
import time

if importlib.util.find_spec("torch") and os.environ.get("KERAS_BACKEND") == "torch":
    import torch

    # Several test processes share the processor.
    torch.set_num_threads(1)

import keras
import numpy as np
import tensorflow as tf

import keras_stm
from keras_stm.train import presets, run
from tests.train.small_runs import NARROW


def kill():
    os.kill(os.getpid(), signal.Signals[os.environ.get("KILL_SIGNAL", "SIGKILL")])
    # JAX checks for signals once a second. Without this pause, the narrow model would take many steps.
    time.sleep(2)


class KillAfterSteps(keras.callbacks.Callback):
    def __init__(self, count):
        super().__init__()
        self.left = count

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            kill()


def kill_in_checkpoint(count):
    savez, calls = np.savez, itertools.count(1)

    def write(file, **arrays):
        savez(file, **arrays)
        if next(calls) == count:
            file.truncate(file.tell() // 2)
            kill()

    np.savez = write


def main(arguments):
    cpus = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * int(os.environ.get("LOGICAL_CPUS", 1))
    tf.config.set_logical_device_configuration(cpus, logical)
    presets.MODELS["stm_small"] = NARROW
    # The export does not depend on the devices that trained, and takes longer than the training.
    keras_stm.export.save = lambda model, path, *args, **kwargs: os.makedirs(path)
    # Commands in the same process must connect to the other processes only once.
    keras.distribution.initialize = functools.cache(keras.distribution.initialize)
    what, _, count = os.environ.get("KILL", "").partition(":")
    if what == "step":
        run.fit = functools.partial(run.fit, callbacks=[KillAfterSteps(int(count))])
    if what == "write":
        kill_in_checkpoint(int(count))
    for is_end, command in itertools.groupby(arguments, lambda argument: argument == "--"):
        if not is_end:
            name, *rest = command
            module = importlib.import_module(f"keras_stm.commands.{name.removesuffix('.py')}")
            try:
                module.main([name, *rest])
            except SystemExit as end:
                if end.code:
                    raise


if __name__ == "__main__":
    main(sys.argv[1:])
