"""When a signal ends a training. `test_kills` tests that several processes agree."""

import signal

import pytest

from keras_stm.train.callbacks import Interruption
from keras_stm.train.devices import Devices

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_training_after_the_step(number):
    steps = []
    with pytest.raises(KeyboardInterrupt), Interruption(Devices()) as interruption:
        interruption.on_train_batch_end(0)
        signal.raise_signal(number)
        steps.append("whole")
        interruption.on_train_batch_end(1)
        steps.append("another")
    assert steps == ["whole"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_it_at_once(number):
    steps = []
    with pytest.raises(KeyboardInterrupt), Interruption(Devices()):
        signal.raise_signal(number)
        signal.raise_signal(number)
        steps.append("whole")
    assert not steps


def test_a_signal_after_the_last_step_is_not_lost():
    with pytest.raises(KeyboardInterrupt), Interruption(Devices()):
        signal.raise_signal(signal.SIGTERM)


def test_an_error_is_not_hidden_by_a_signal():
    with pytest.raises(ValueError, match="first"), Interruption(Devices()):
        signal.raise_signal(signal.SIGINT)
        raise ValueError("first")


def test_signals_do_afterwards_what_they_did_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption(Devices()):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
