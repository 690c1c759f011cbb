"""Weights of classes, and the order of clips in an epoch."""

import numpy as np
import pytest

from keras_stm.data import class_balance

# 80, 0, 16 and 4 clips of four classes.
LABELS = [0] * 80 + [2] * 16 + [3] * 4


def test_balanced_weights_are_those_of_scikit_learn():
    weights = class_balance.class_weights(LABELS, 5)
    # n / (classes * n_c) over the three classes that have clips.
    np.testing.assert_allclose(weights, [100 / 240, 1, 100 / 48, 100 / 12, 1])


@pytest.mark.parametrize(
    "sampling_weights, counts",
    [("none", [80, 16, 4]), ("sqrt", [56.38, 25.21, 12.61]), ("balanced", [100 / 3] * 3)],
)
def test_an_epoch_shows_each_class_as_often_as_the_weights_say(sampling_weights, counts):
    counts = np.array(counts) * 100 / np.sum(counts)
    orders = [class_balance.epoch_order(LABELS, sampling_weights, 0, epoch) for epoch in range(50)]
    shown = np.array([np.bincount(np.array(LABELS)[order], minlength=4)[[0, 2, 3]] for order in orders])
    assert (shown.sum(axis=1) == 100).all()
    assert (np.abs(shown - counts) < 1).all()
    np.testing.assert_allclose(shown.mean(axis=0), counts, atol=0.2)
    for order in orders:
        times = np.bincount(order, minlength=100)
        # Clips of a class come equally often, up to one.
        assert all(np.ptp(times[np.array(LABELS) == label]) <= 1 for label in (0, 2, 3))
    # All clips of the largest class have their turn.
    assert len(set(np.concatenate(orders).tolist())) == 100


def test_the_weights_of_the_loss_are_for_the_clips_that_an_epoch_shows():
    np.testing.assert_allclose(class_balance.class_weights(LABELS, 4, "balanced"), 1)
    shares = np.sqrt([80, 16, 4]) / np.sqrt([80, 16, 4]).sum()
    np.testing.assert_allclose(class_balance.class_weights(LABELS, 4, "sqrt")[[0, 2, 3]], 1 / (3 * shares))


def test_an_order_depends_on_the_seed_and_the_epoch_alone_and_is_mixed():
    orders = {
        (seed, epoch): class_balance.epoch_order(LABELS, "balanced", seed, epoch).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert class_balance.epoch_order(LABELS, "balanced", 1, 1).tolist() == orders[1, 1]
    assert len({tuple(order) for order in orders.values()}) == 4
    # Each third of the epoch has clips of each class.
    assert all(len({LABELS[i] for i in part}) == 3 for part in np.array_split(orders[0, 0], 3))
