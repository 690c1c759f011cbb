"""All of `benchmark.py --quick`, and one of its processes that run a backend."""

import json
import math
import os
import subprocess
import sys

import pytest

import benchmark
from benchmarks import networks, startup
from benchmarks.worker import Worker, WorkerError
from tests.training.benchmarks.fake_worker import STEPS


def quick(path, *arguments):
    """Runs a quick benchmark in a process, checks each number of its report and returns the report."""
    process = subprocess.run(
        [sys.executable, benchmark.__file__, "--quick", "--networks=TSN", f"--json={path}", *arguments],
        capture_output=True,
        text=True,
        # The tests run in one process per core, so more threads would wait for each other.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert max(map(len, process.stdout.splitlines())) <= 110
    report = json.loads(path.read_text())
    assert report["errors"] == []
    for row in report["rows"]:
        assert report["peak_flops"] > 0
        assert len(row["seconds"]) == 2
        names = ["macs", "parameters", "milliseconds", "videos_per_second"]
        if row["kind"] in networks.BFLOAT16_KINDS:
            # The peak is that of float32.
            assert row["peak_share"] is None
        else:
            names.append("peak_share")
        numbers = [*row["seconds"], *row["to_tsn"].values(), *(row[name] for name in names)]
        assert all(math.isfinite(number) and number > 0 for number in numbers), row
        if row["task"] == "training" and os.access("/proc/self/clear_refs", os.W_OK):
            assert 0 < row["memory_mib"] < 4096 and row["memory_to_tsn"] > 0
        else:
            assert row["memory_mib"] is row["memory_to_tsn"] is None
    return report


def measured(report):
    names = ("task", "batch", "backend", "kind", "network")
    return {tuple(row[name] for name in names) for row in report["rows"]}


def test_a_quick_run_measures_each_network_and_kind_that_is_asked_for(tmp_path):
    report = quick(tmp_path / "speed.json", "--backends=torch", "--kinds=plain", "--batch_sizes=2")
    assert measured(report) == {("inference", 2, "torch", "plain", "TSN")}
    assert os.listdir(tmp_path) == ["speed.json"]


@pytest.mark.slow
def test_a_quick_run_measures_every_kind(tmp_path):
    # TensorFlow has all kinds of our own. The two skipped kinds, compiling and starting up, take longest.
    kinds = [kind for kind in networks.KINDS if kind not in ("torch_compile", "startup")]
    report = quick(
        tmp_path / "speed.json", "--backends=tensorflow", f"--kinds={','.join(kinds)}", "--batch_sizes=1"
    )
    assert report["left_out"] == {}
    others = {"torch_eager", "torch_bfloat16", "openvino", "onnxruntime"}
    expected = {("training", 2, "tensorflow", "training", "TSN"), ("training", 2, None, "torch_eager", "TSN")}
    own = ("plain", "folded", "bfloat16", "saved_model")
    expected |= {("inference", 1, "tensorflow", kind, "TSN") for kind in own}
    expected |= {("inference", 1, None, kind, "TSN") for kind in others}
    assert measured(report) == expected
    assert {each["against"] for each in report["comparisons"]} == others


@pytest.mark.slow
def test_a_process_of_pytorch_builds_trains_and_clears_what_it_has():
    worker = Worker("torch", STEPS)
    try:
        for library in startup.LIBRARIES:
            assert worker.call("start_up", library=library) > 0
        step = {"task": "training", "kind": "training", "network": "STM", "frames": 4, "batch": 1}
        worker.call("prepare", key="step", path=None, **step)
        assert worker.call("time", key="step") > 0
        worker.call("clear")
        with pytest.raises(WorkerError, match="KeyError: 'step'"):
            worker.call("time", key="step")
    finally:
        worker.stop()
