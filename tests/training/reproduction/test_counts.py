"""Sizes of the published networks."""

import dataclasses

import numpy as np

import keras_stm
import reproduce
from reproduction.counts import count
from reproduction.runs import Settings

TINY = dataclasses.replace(Settings(), **reproduce.TINY)


def test_counts_are_of_the_published_networks():
    # The tests of the models check the numbers of the published networks.
    assert (Settings().published, Settings().published_size) == (((3, 4, 6, 3), 64), 224)
    counts = count(TINY)
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=174, branches=("cstm",), temporal_conv="ordinary")
    found = counts["ordinary"]
    assert found["parameters"] == sum(np.prod(weight.shape) for weight in model.trainable_weights)
    macs = keras_stm.count_macs(model, (8, 64, 64, 3))
    assert found["macs"] == {"8": macs, "16": 2 * macs}
    assert counts["cstm"]["parameters"] < found["parameters"]
