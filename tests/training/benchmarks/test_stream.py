"""`--what=stream`: what is measured, and what is printed of it."""

import types

import pytest

import benchmark
from benchmarks import keras_steps, stream
from benchmarks.worker import WorkerError
from tests.training.benchmarks.fake_worker import STEPS, FakeWorker

OPTIONS = {**STEPS, "backends": ["tensorflow", "jax"], "num_frames": [8, 16], "rounds": 3}


class Worker(FakeWorker):
    def call(self, method, key=None, **arguments):
        self.asked.append((method, self.name, key, self))
        # The machine becomes slower, which does not change the ratios.
        slower = len(self.asked)
        return slower * {"step": 0.001, "window": 0.008, "torch_eager": 0.012}[key]


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(stream, "Worker", Worker)
    monkeypatch.setattr(stream, "is_installed", lambda package: True)
    monkeypatch.setattr(FakeWorker, "asked", [])
    monkeypatch.setattr(FakeWorker, "failing", {})


def rows(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()[3:]]


def test_all_kinds_are_measured_in_turn_and_compared_with_the_step(workers, capsys):
    assert stream.measure(types.SimpleNamespace(**OPTIONS)) == 0
    found = rows(capsys)
    assert [row[0] for row in found] == ["tensorflow"] * 3 + ["jax"] * 3
    assert [float(row[-1]) for row in found[:3]] == [1.0, pytest.approx(9, abs=1), pytest.approx(15, abs=2)]
    asked = [(method, name, key) for method, name, key, _ in FakeWorker.asked[:12]]
    kinds = [("tensorflow", "step"), ("tensorflow", "window"), ("others", "torch_eager")]
    assert asked == [("prepare", *kind) for kind in kinds] + 3 * [("time", *kind) for kind in kinds]


def test_a_backend_that_fails_is_named_and_the_others_are_measured(workers, monkeypatch, capsys):
    class Failing(Worker):
        def call(self, method, key=None, **arguments):
            if self.name == "tensorflow":
                raise WorkerError("no memory")
            return super().call(method, key, **arguments)

    monkeypatch.setattr(stream, "Worker", Failing)
    assert stream.measure(types.SimpleNamespace(**OPTIONS)) == 1
    captured = capsys.readouterr()
    assert captured.err == "benchmark.py: ERROR: tensorflow: no memory\n"
    assert captured.out.count("jax") == 3


def test_the_command_measures_streams(monkeypatch):
    measured = []
    monkeypatch.setattr(stream, "measure", lambda options: measured.append(options) or 0)
    assert benchmark.main(["benchmark.py", "--what=stream", "--quick", "--backends=tensorflow"]) == 0
    assert (measured[0].num_frames, measured[0].image_size) == ([4], 32)


def test_a_step_computes_a_frame_and_a_window_its_clip():
    steps = keras_steps.KerasSteps(**STEPS)
    arguments = {"task": "inference", "network": "STM", "frames": 3, "batch": 1, "path": None}
    step, window = (steps.make_step(kind=kind, **arguments) for kind in ("step", "window"))
    assert step().shape == window().shape == (1, 174)
    # The state goes on: the answer to the same frame is another one.
    assert (step() != step()).any()
