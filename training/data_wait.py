"""How long the steps of the first epoch wait for clips, and what to do about it."""

import time

import keras
import tensorflow as tf

# Waiting longer than this part of the time, the model would gain from a faster loader.
_NOTABLE = 0.1


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
            advice.append("pack the clips with training/pack.py and give --data_dir the result")
        if self.workers < self.cores:
            advice.append(f"raise --workers from {self.workers} to {self.cores}")
        return f"{waited}the loader is the bottleneck: {' or '.join(advice) or 'more processors would help'}."
