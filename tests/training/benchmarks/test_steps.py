"""The times and the memory of steps, and the steps of plain PyTorch."""

import os
import time

import numpy as np
import pytest
import torch

from benchmarks.other_steps import OtherSteps
from benchmarks.steps import Steps
from tests.training.benchmarks.fake_worker import STEPS


class Waiting(Steps):
    """Steps that take five milliseconds and 64 MiB."""

    calls = 0

    def make_step(self, **arguments):
        def step():
            self.calls += 1
            np.ones(64 * 2**20, "uint8")
            time.sleep(0.005)

        return step


def test_a_step_is_repeated_where_it_is_short():
    for least_seconds, repeated in ((0, False), (0.1, True)):
        steps = Waiting(**{**STEPS, "least_seconds": least_seconds})
        steps.prepare("x")
        calls = steps.calls
        assert 0.005 <= steps.time("x") < 0.1
        assert (steps.calls - calls > 1) is repeated


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="clear_refs is not writable")
def test_the_memory_of_a_step_is_its_peak():
    steps = Waiting(**STEPS)
    assert 60 < steps.memory("x") < 80
    steps.on_gpu = True
    assert steps.memory("x") is None


@pytest.mark.slow
def test_plain_pytorch_is_measured_compiled(monkeypatch):
    compiled = []

    def compile_eagerly(network, **options):
        compiled.append(options)
        # Compiling C++ would take longest.
        return torch_compile(network, backend="eager", **options)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    steps = OtherSteps(**STEPS)
    clips = {"network": "STM", "frames": 4, "batch": 1, "path": None}
    for kind in ("torch_eager", "torch_compile"):
        steps.prepare(kind, task="inference", kind=kind, **clips)
        assert steps.time(kind) > 0
    scores = [steps.steps[kind][0]() for kind in ("torch_eager", "torch_compile")]
    assert all(each.shape == (1, 174) and each.sum() == pytest.approx(1) for each in scores)
    assert compiled == [{"dynamic": False}]
    steps.clear()
    assert steps.steps == {}
