"""Whether the loader or the model is the bottleneck."""

import time

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.train.callbacks import DataWait


def measure(seconds_to_load, seconds_to_train, steps=4):
    """Returns the share of time that steps wait, if loading and training take this long."""

    def load(step):
        time.sleep(seconds_to_load)
        return step

    batches = tf.data.Dataset.range(steps).map(lambda step: tf.numpy_function(load, (step,), tf.int64))
    data_wait = DataWait(packed=False, workers=1, cores=1)
    shares = []
    data_wait.verdict = lambda share: shares.append(share) or ""
    watched = data_wait.watch(batches.prefetch(1))
    assert watched.cardinality() == steps
    found = []
    for step in watched:
        found.append(int(step))
        time.sleep(seconds_to_train)
        data_wait.on_train_batch_end(step, {"loss": np.float32(0)})
    assert found == list(range(steps))
    for epoch in range(2):
        data_wait.on_epoch_end(epoch)
    (share,) = shares
    return share


def test_a_slow_loader_makes_steps_wait_and_a_slow_model_does_not():
    assert measure(seconds_to_load=0.1, seconds_to_train=0.02) > 0.5
    assert measure(seconds_to_load=0.02, seconds_to_train=0.15) < 0.1


@pytest.mark.parametrize(
    "share, packed, workers, expected, unexpected",
    [
        (0.02, False, 2, ["2%", "the model is", "`mixed_precision`"], ["pack"]),
        (0.5, False, 2, ["50%", "the loader is", "keras-stm pack", "`workers` from 2 to 8"], ["the model"]),
        (0.5, True, 2, ["the loader is", "`workers` from 2 to 8"], ["keras-stm pack"]),
        (0.5, True, 8, ["the loader is", "more processors"], ["keras-stm pack", "`workers`"]),
    ],
)
def test_the_verdict_names_the_flag_to_turn(share, packed, workers, expected, unexpected):
    verdict = DataWait(packed, workers, cores=8).verdict(share)
    assert all(text in verdict for text in expected)
    assert not any(text in verdict for text in unexpected)
