"""What happens between the steps of a training: waiting for clips, signals, losses, the end of an epoch."""

import os
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_stm.train import schedules
from keras_stm.train.checkpoints import state

# Waiting longer than this part of the time, the model would gain from a faster loader.
_NOTABLE = 0.1

_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


class DataWait(keras.callbacks.Callback):
    """Says after the first epoch that it sees whether the loader or the model is the bottleneck.

    Args:
        packed: whether the clips come from packed shards.
        workers: clips read at the same time.
        cores: processors at hand.
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
        """The same `tf.data.Dataset`; the time that its reader waits for a batch is added to `waited`."""

        def clock(sign):
            def add(step):
                self.waited += sign * time.perf_counter()
                return step

            return tf.data.Dataset.counter().map(lambda step: tf.numpy_function(add, (step,), tf.int64))

        # Asked for an element, a zip asks its parts in turn: one clock before the batch, one after it.
        watched = tf.data.Dataset.zip(clock(-1), batches, clock(1)).map(lambda before, batch, after: batch)
        options = tf.data.Options()
        # Either would read the clocks ahead of the batches.
        options.experimental_optimization.map_parallelization = False
        options.experimental_optimization.inject_prefetch = False
        return watched.with_options(options)

    def on_train_batch_end(self, batch, logs=None):
        if self._finished:
            return
        # Waits for the step: until then a device may be busy while its next batch is on the way.
        float(logs["loss"])
        if self._start is None:
            # The first step is compiled and finds no batch ready.
            self._start = time.perf_counter()
            self.waited = 0.0
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = self._last - self._start
        if not self._finished and seconds > 0:
            print("\n" + self.verdict(self.waited / seconds))
        self._finished = True

    def verdict(self, share):
        """A line about the bottleneck, for the share of the time that steps waited."""
        waited = f"Steps waited {share:.0%} of their time for clips: "
        if share < _NOTABLE:
            return (
                f"{waited}the model is the bottleneck. --mixed_precision=bfloat16 on a recent GPU, fewer "
                "--num_frames or a smaller --image_size make it faster."
            )
        advice = []
        if not self.packed:
            advice.append("pack the clips with `keras-stm pack` and give --data_dir the result")
        if self.workers < self.cores:
            advice.append(f"raise --workers from {self.workers} to {self.cores}")
        return f"{waited}the loader is the bottleneck: {' or '.join(advice) or 'more processors would help'}."


class Interruption(keras.callbacks.Callback):
    """Ends a training by `KeyboardInterrupt` after the step in which a signal came.

    All processes end after the same one.

    Raised at once it could come anywhere, also where a library loses it, and the other processes would wait
    for this one's part of a step. A second Ctrl-C is raised at once all the same.

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


class FiniteLoss(keras.callbacks.Callback):
    """Stops the training at the first loss that is no number."""

    def __init__(self, data, devices):
        super().__init__()
        self.data = data
        self.devices = devices
        self._epoch = self._last = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # That of the step before: waiting for this one's would keep the device from the next.
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
                f"of {rate:.3g}. Clips of that step:\n  {paths}\n{kept}The same command would come to the "
                "same step: try a lower --learning_rate, a --clip_norm or, if a clip is to blame, --exclude, "
                "with another --output."
            )


class EpochEnd(keras.callbacks.Callback):
    """Validates, adds the epoch to the history and to the run's folder, and decides whether to stop early."""

    def __init__(self, training):
        super().__init__()
        self.training = training

    def on_epoch_end(self, epoch, logs=None):
        training = self.training
        folder, history, data, devices = training.folder, training.history, training.data, training.devices
        result, logs["val_loss"] = training.validate_average()
        logs["val_accuracy"] = result.top1
        row = {"epoch": epoch, **{name: float(logs[name]) for name in _COLUMNS}}
        # That of the epoch's last step.
        row["learning_rate"] = schedules.learning_rate(data, (epoch + 1) * data.steps_per_epoch() - 1)
        history.append(row)
        # In every process, as JAX may ask them for their parts.
        arrays = [keras.ops.convert_to_numpy(variable) for variable in state(self.model)]
        for part in devices.gather(data.left_out.reasons):
            data.left_out.reasons.update(part)

        def write():
            folder.save_checkpoint(arrays, history, training.best_epoch())
            folder.add_left_out(data.left_out.reasons)

        devices.from_first(write)
        data.left_out.check()
        if training.is_stopped():
            self.model.stop_training = True
