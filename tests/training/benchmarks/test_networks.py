"""Which steps are measured, in which order, and what happens after a step fails."""

from benchmarks.worker import OTHERS, WorkerError
from tests.training.benchmarks.fake_worker import FakeWorker


def keys(results):
    return [(row["backend"], row["kind"], row["network"]) for row in results["rows"]]


def test_all_steps_are_timed_in_every_round_and_none_always_after_the_same(measure):
    measure(kinds=["plain"])
    timed = [(name, key) for method, name, key, _ in FakeWorker.asked if method == "time"]
    forwards = [(name, f"plain {network}") for name in ("tensorflow", "jax") for network in ("TSN", "STM")]
    assert timed == [*forwards, *reversed(forwards), *forwards]


def test_a_step_that_fails_is_told_by_its_name_and_the_others_are_measured(measure, capsys):
    results = measure({("time", "plain STM"): WorkerError("OutOfMemory")}, backends=["jax"])
    assert keys(results) == [
        ("jax", "plain", "TSN"),
        (None, "torch_eager", "TSN"),
        (None, "torch_eager", "STM"),
    ]
    assert results["errors"] == ["inference, 8 frames, batch 2: jax plain STM: OutOfMemory"]
    assert "ERROR: inference, 8 frames, batch 2: jax plain STM: OutOfMemory" in capsys.readouterr().err


def test_a_process_that_dies_takes_its_steps_with_it_and_no_others(measure):
    results = measure({("time", "torch_eager TSN"): WorkerError("killed", dead=OTHERS)})
    assert keys(results) == [
        (name, "plain", network) for name in ("tensorflow", "jax") for network in ("TSN", "STM")
    ]
    assert results["errors"] == ["inference, 8 frames, batch 2: torch_eager TSN: killed"]


def test_a_backend_that_does_not_start_is_left_out(measure):
    results = measure({("is_on_gpu", None): WorkerError("no driver")})
    assert keys(results) == [(None, "torch_eager", network) for network in ("TSN", "STM")]
    assert results["errors"] == ["tensorflow: no driver", "jax: no driver"]
    assert results["rows"][0]["macs"] is None


def test_what_is_not_installed_is_left_out_and_said(measure, capsys):
    results = measure(kinds=["plain", "openvino", "saved_model"], backends=["jax"])
    assert results["left_out"] == {
        "openvino": "openvino not installed",
        "saved_model": "it is measured only under tensorflow",
    }
    assert "benchmark.py: openvino is skipped: openvino not installed" in capsys.readouterr().err
    assert keys(results) == [("jax", "plain", "TSN"), ("jax", "plain", "STM")]
