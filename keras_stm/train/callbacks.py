"""Callbacks of a training: the time spent waiting for clips, signals, the loss, the end of an epoch."""

import os
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_stm.progress import counted
from keras_stm.train import schedules
from keras_stm.train.checkpoints import state

# The loader is the bottleneck if steps wait for at least this share of their time.
_NOTABLE = 0.1

# The steps, after the first one, that the estimate of the training time is made from.
_MEASURED_STEPS = 10

_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy", "val_mean_class_accuracy")


class DataWait(keras.callbacks.Callback):
    """Prints after its first epoch whether the loader or the model is the bottleneck.

    Args:
        packed: whether the clips come from packed shards.
        workers: number of clips read at the same time.
        cores: number of available processors.
    """

    def __init__(self, packed, workers, cores):
        super().__init__()
        self.packed = packed
        self.workers = workers
        self.cores = cores
        self.waited = 0.0
        self._start = self._last = None
        self._finished = False

    def watch(self, batches):
        """Returns the same `tf.data.Dataset`, which adds the time spent waiting for a batch to `waited`."""

        def clock(sign):
            def add(step):
                self.waited += sign * time.perf_counter()
                return step

            return tf.data.Dataset.counter().map(lambda step: tf.numpy_function(add, (step,), tf.int64))

        # A zip asks its parts in turn: one clock runs before the batch, the other one after it.
        watched = tf.data.Dataset.zip(clock(-1), batches, clock(1)).map(lambda before, batch, after: batch)
        options = tf.data.Options()
        # Either optimization would read the clocks ahead of the batches.
        options.experimental_optimization.map_parallelization = False
        options.experimental_optimization.inject_prefetch = False
        return watched.with_options(options)

    def on_train_batch_end(self, batch, logs=None):
        if self._finished:
            return
        # Wait for the step: until it ends, the next batch can load without delaying the device.
        float(logs["loss"])
        if self._start is None:
            # The first step does not count: it is compiled, and no batch is ready for it.
            self._start = time.perf_counter()
            self.waited = 0.0
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = self._last - self._start
        if not self._finished and seconds > 0:
            print("\n" + self.verdict(self.waited / seconds))
        self._finished = True

    def verdict(self, share):
        """Returns a line that names the bottleneck, given the share of time that steps waited."""
        waited = f"Steps waited {share:.0%} of their time for clips: "
        if share < _NOTABLE:
            return (
                f"{waited}the model is the bottleneck. To speed it up, use `mixed_precision` 'bfloat16' on a "
                "recent GPU, fewer `num_frames` or a smaller `image_size`."
            )
        advice = []
        if not self.packed:
            advice.append("pack the clips with `keras-stm pack` and pass the packed folder as `data_dir`")
        if self.workers < self.cores:
            advice.append(f"raise `workers` from {self.workers} to {self.cores}")
        return f"{waited}the loader is the bottleneck: {' or '.join(advice) or 'more processors would help'}."


class TimeEstimate(keras.callbacks.Callback):
    """Prints once, after the first steps, how long the training takes at most.

    A validation step counts as a training step, which takes longer.

    Args:
        steps: number of steps of training and validation together.
    """

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self._start = None
        self._durations = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # The first step does not count: it is compiled.
        if len(self._durations) > _MEASURED_STEPS:
            return
        # Wait for the step.
        float(logs["loss"])
        now = time.perf_counter()
        self._durations.append(now - self._start)
        self._start = now
        if len(self._durations) > _MEASURED_STEPS:
            seconds = sum(self._durations[1:]) / _MEASURED_STEPS * self.steps
            print(f"\nEstimated training time: at most {describe_seconds(seconds)}.")


def describe_seconds(seconds):
    """Returns a duration in two digits or so, such as `"40 seconds"` or `"2.5 hours"`."""
    if seconds < 100:
        return counted(round(seconds), "second")
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


class Interruption(keras.callbacks.Callback):
    """Raises `KeyboardInterrupt` after the step during which a signal arrived.

    All processes end after the same step.

    An exception that is raised at once could interrupt any code, and a library could swallow it. The other
    processes would then wait for this process's part of the step. A second signal still raises at once.

    Args:
        devices: `Devices`.
    """

    def __init__(self, devices):
        super().__init__()
        self._devices = devices
        self._is_received = False
        self._steps = 0
        self._before = {}

    def __enter__(self):
        # JAX handles SIGTERM itself: it makes several processes agree on the step at which they end.
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
        """Raises `KeyboardInterrupt` if all processes stop here; each must call it between the same steps."""
        self._steps += 1
        if self._devices.agree_to_stop(self._steps, self._is_received):
            raise KeyboardInterrupt

    def _receive(self, number, frame):
        if self._is_received:
            signal.default_int_handler(number, frame)
        self._is_received = True
        print("\nStopping after this step. Press Ctrl-C again to stop at once.", file=sys.stderr)
        if self._devices.num_processes > 1:
            os.kill(os.getpid(), signal.SIGTERM)


class FiniteLoss(keras.callbacks.Callback):
    """Raises `RuntimeError` at the first loss that is not finite.

    Args:
        data: `RunData`.
        devices: `Devices`.
    """

    def __init__(self, data, devices):
        super().__init__()
        self.data = data
        self.devices = devices
        self._epoch = self._last = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # Check the loss of the previous step: waiting for this step's loss would delay the next step.
        self._check()
        self._last = batch, logs["loss"]

    def on_epoch_end(self, epoch, logs=None):
        self._check()
        self._last = None

    def _check(self):
        if self._last is None:
            return
        step, loss = self._last
        if not np.isfinite(float(loss)):
            epoch = self._epoch
            rate = schedules.learning_rate(self.data, epoch * self.data.steps_per_epoch() + step)
            paths = "\n  ".join(sum(self.devices.gather(self.data.batch_paths(epoch, step)), []))
            kept = f"The checkpoint after epoch {epoch} is kept. " if epoch else ""
            raise RuntimeError(
                f"The loss became {float(loss)} at step {step + 1} of epoch {epoch + 1}, at a learning rate "
                f"of {rate:.3g}. Clips of that step:\n  {paths}\n{kept}The same settings would fail at the "
                "same step. Try a lower `learning_rate`, set `clip_norm` or, if a clip is the cause, list it "
                "in `exclude`. Pass another `output`."
            )


class EpochEnd(keras.callbacks.Callback):
    """Validates, adds the epoch to the history and to the run's folder, and decides whether to stop early.

    Args:
        training: `loop.Training`.
    """

    def __init__(self, training):
        super().__init__()
        self.training = training

    def on_epoch_end(self, epoch, logs=None):
        training = self.training
        folder, history, data, devices = training.folder, training.history, training.data, training.devices
        result, logs["val_loss"] = training.validate_average()
        logs["val_accuracy"] = result.top1
        logs["val_mean_class_accuracy"] = result.mean_class_accuracy
        row = {"epoch": epoch, **{name: float(logs[name]) for name in _COLUMNS}}
        # The rate of the epoch's last step.
        row["learning_rate"] = schedules.learning_rate(data, (epoch + 1) * data.steps_per_epoch() - 1)
        history.append(row)
        # In every process, because JAX may need all of them to read a variable.
        arrays = [keras.ops.convert_to_numpy(variable) for variable in state(self.model)]
        for part in devices.gather(data.left_out.reasons):
            data.left_out.reasons.update(part)

        def write():
            folder.save_checkpoint(arrays, history, training.best_epoch())
            folder.add_left_out(data.left_out.reasons)

        devices.from_first(write)
        data.left_out.check()
        # The clips of the next epochs are longer: another call of `fit` takes them.
        if training.is_stopped() or len(history) == data.settings.history_start:
            self.model.stop_training = True
