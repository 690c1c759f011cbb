"""The learning rate over the steps of a run."""

import dataclasses
import types

import pytest

from keras_stm.train import presets, schedules


def data_of(**changes):
    settings = dataclasses.replace(presets.PRESETS["live"], learning_rate=0.3, **changes)
    return types.SimpleNamespace(settings=settings, batch_size=64, updates_per_epoch=lambda: 10)


@pytest.mark.every_backend
def test_the_epochs_with_history_have_a_cosine_of_their_own():
    data = data_of(epochs=6)
    rates = [schedules.learning_rate(data, step) for step in range(60)]
    before, history = rates[:50], rates[50:]
    alone = data_of(epochs=5, history=0)
    assert before == pytest.approx([schedules.learning_rate(alone, step) for step in range(50)])
    assert history[0] == 0 and max(history) == history[1] == pytest.approx(0.3 / 3)
    assert history[1:] == sorted(history[1:], reverse=True) and history[-1] < 0.01


def test_a_run_of_one_epoch_has_the_cosine_of_history_alone():
    rates = [schedules.learning_rate(data_of(epochs=1), step) for step in range(10)]
    assert rates == [
        pytest.approx(schedules.learning_rate(data_of(epochs=6), 50 + step)) for step in range(10)
    ]
