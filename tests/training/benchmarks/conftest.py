"""Fixtures that measure with fake workers in place of processes."""

import signal
import types

import pytest

from benchmarks import networks
from tests.training.benchmarks.fake_worker import STEPS, FakeWorker


@pytest.fixture
def made_up(monkeypatch):
    """Makes the command use fake workers."""
    monkeypatch.setattr(networks, "Worker", FakeWorker)
    monkeypatch.setattr(networks, "PAUSE", 0)
    monkeypatch.setattr(FakeWorker, "asked", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def measure(made_up, monkeypatch):
    """Function that measures with fake workers and returns the results."""
    monkeypatch.setattr(networks, "is_installed", lambda package: package != "openvino")

    def measure(failing=None, **more):
        monkeypatch.setattr(FakeWorker, "failing", failing or {})
        options = {
            **STEPS,
            **{
                "backends": ["tensorflow", "jax"],
                "networks": ["TSN", "STM"],
                "kinds": ["plain", "torch_eager"],
            },
            **{"compared_networks": ["TSN", "STM"], "num_frames": [8], "batch_sizes": [2]},
            **{"training_batch_size": 2, "rounds": 3, "matrix_size": 8, **more},
        }
        return networks.measure(types.SimpleNamespace(**options))

    return measure
