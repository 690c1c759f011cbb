"""`training/benchmark.py`: that it measures all it promises, and what it makes of the times."""

import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import benchmark_networks
import benchmark_report
import benchmark_worker
from benchmark_steps import NETWORKS, Steps
from benchmark_worker import OTHERS, Worker, WorkerError
from tests.reference.backend import BACKEND, relative_error

COMMAND = pathlib.Path(benchmark_report.__file__).with_name("benchmark.py")
STEPS = {
    "depths": [1, 1, 1, 1],
    "width": 16,
    "image_size": 40,
    "mixed_precision": "none",
    "jit_compile": None,
    "least_seconds": 0,
}


def run(*arguments, **options):
    # More threads would wait for each other: the tests run in one process per core.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(COMMAND), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


def quick(path, *arguments):
    """The report of a quick run, of which each number is looked at."""
    process = run("--quick", f"--json={path}", *arguments)
    assert process.returncode == 0, process.stderr[-3000:]
    assert max(map(len, process.stdout.splitlines())) <= 110
    report = json.loads(path.read_text())
    assert report["errors"] == []
    for row in report["rows"]:
        assert report["peak_flops"] > 0
        assert len(row["seconds"]) == 2
        names = ("macs", "parameters", "milliseconds", "videos_per_second", "peak_share")
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
    report = quick(
        tmp_path / "speed.json",
        *("--backends=tensorflow", "--networks=TSN", "--kinds=plain,torch_eager", "--batch_sizes=2"),
    )
    assert measured(report) == {
        ("inference", 2, "tensorflow", "plain", "TSN"),
        ("inference", 2, None, "torch_eager", "TSN"),
    }
    assert os.listdir(tmp_path) == ["speed.json"]


@pytest.mark.slow
def test_a_quick_run_measures_every_backend_and_kind(tmp_path):
    # Starting up takes longest, and is the same for each backend.
    kinds = ",".join(kind for kind in benchmark_networks.KINDS if kind != "startup")
    report = quick(tmp_path / "speed.json", f"--kinds={kinds}", "--networks=TSN", "--batch_sizes=1")
    backends = ("tensorflow", "jax", "torch")
    # A compiler is not on every machine.
    assert set(report["left_out"]) <= {"torch_compile"}
    others = [kind for kind in benchmark_networks.OTHER_KINDS if kind not in report["left_out"]]
    expected = {("training", 2, name, "training", "TSN") for name in backends}
    expected |= {("training", 2, None, kind, "TSN") for kind in others if kind.startswith("torch")}
    expected |= {("inference", 1, name, kind, "TSN") for name in backends for kind in ("plain", "folded")}
    expected |= {("inference", 1, None, kind, "TSN") for kind in others}
    assert measured(report) == expected | {("inference", 1, "tensorflow", "saved_model", "TSN")}
    assert {each["against"] for each in report["comparisons"]} == set(others)


@pytest.mark.slow
def test_a_quick_run_measures_how_long_starting_up_takes(tmp_path):
    report = quick(tmp_path / "speed.json", "--kinds=startup", "--backends=torch", "--rounds=1")
    assert [(row["backend"], row["what"]) for row in report["startup"]] == [
        ("torch", "import"),
        ("torch", "build"),
    ]
    assert all(row["ratio"] > 0 for row in report["startup"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_it_was_stopped_is_reported(number, tmp_path):
    arguments = ("--quick", "--backends=torch", "--networks=TSN", "--kinds=plain", "--rounds=100000")
    process = subprocess.Popen(
        [sys.executable, str(COMMAND), *arguments, f"--json={tmp_path / 'speed.json'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if "round 3 of" in line:
            process.send_signal(number)
            break
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1 and "ERROR: stopped: what was to follow is not measured" in errors
    assert "Traceback" not in errors
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(row["seconds"]) >= 2 and "TSN" in output


@pytest.mark.skipif(BACKEND != "torch", reason="compares with PyTorch, in one process")
@pytest.mark.parametrize("network", NETWORKS)
def test_plain_pytorch_computes_the_same_network(network):
    import keras
    import torch

    import benchmark_torch
    from benchmark_keras import KerasSteps

    model = KerasSteps(**STEPS).build(network, frames=4)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        std = 0.2 if len(variable.shape) == 1 else np.sqrt(2 / np.prod(variable.shape[:-1]))
        values = rng.normal(scale=std, size=variable.shape)
        variable.assign(np.abs(1 + values) if variable.path.endswith(("gamma", "variance")) else values)
    # Softmax would hide most of a difference.
    logits = keras.Model(model.input, model.get_layer("consensus").output)

    plain = benchmark_torch.Network(network, STEPS["depths"], STEPS["width"])
    benchmark_torch.load(plain, model)
    clips = rng.normal(size=(2, 4, 40, 40, 3)).astype("float32")
    with torch.inference_mode():
        scores = plain.eval()(torch.from_numpy(clips)).numpy()
    assert relative_error(scores, logits.predict_on_batch(clips)) < 1e-4


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--what=x", "value should be one of"),
        ("--backends=theano", "flag --backends=.*'theano' is not one of tensorflow, jax, torch"),
        ("--networks=STM,I3D", "flag --networks=.*'I3D' is not one of TSN"),
        ("--networks=", "flag --networks=.*'' is not one of TSN"),
        ("--kinds=fast", "flag --kinds=.*'fast' is not one of plain"),
        ("--compared_networks=x", "flag --compared_networks=.*'x' is not one of TSN"),
        ("--num_frames=8,0", "flag --num_frames=.*0 is not a positive integer"),
        ("--batch_sizes=", "flag --batch_sizes=.*nothing is not a positive integer"),
        ("--batch_sizes=2.5", "flag --batch_sizes=.*2.5 is not a positive integer"),
        ("--training_batch_size=0", "training_batch_size.*0 is not a positive integer"),
        ("--depths=3,4,six,3", "flag --depths=.*whole numbers"),
        ("--depths=3,4,6", "flag --depths=.*four positive integers"),
        ("--mixed_precision=float16", "mixed_precision.*value should be one of"),
        ("--json=nowhere/speed.json", "--json=nowhere/speed.json: there is no folder"),
        ("--json=.", "--json=. is a folder"),
        ("more", "unknown argument 'more'"),
    ],
)
def test_a_wrong_flag_is_named_before_anything_is_measured(flag, message, tmp_path):
    process = run(flag, cwd=tmp_path)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr and process.stdout == "" and os.listdir(tmp_path) == []
    assert re.search(message, process.stderr), process.stderr


class FakeWorker:
    """Answers at once, each step after its own number of seconds, and keeps what it was asked."""

    asked = []
    seconds = {"TSN": 1.0, "STM": 1.25}
    mib = {"TSN": 64.0, "STM": 80.0}
    # `{(method, key): the error}`
    failing = {}

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.process = "running"

    def call(self, method, key=None, network=None, **arguments):
        self.asked.append((method, self.name, key, self))
        if (method, key) in self.failing:
            raise self.failing[method, key]
        answers = {"count": {"macs": 10**9, "parameters": 10**6}, "is_on_gpu": False}
        if method == "time":
            return self.seconds[key.split()[1]]
        if method == "memory":
            return self.mib[network]
        return answers.get(method)

    def stop(self):
        self.process = None


@pytest.fixture
def measure(monkeypatch):
    """Function that measures with workers which are none, and returns the results."""
    monkeypatch.setattr(benchmark_networks, "Worker", FakeWorker)
    monkeypatch.setattr(benchmark_networks, "is_installed", lambda package: package != "openvino")
    monkeypatch.setattr(FakeWorker, "asked", [])

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
        return benchmark_networks.measure(types.SimpleNamespace(**options))

    return measure


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
        "saved_model": "it is measured under tensorflow",
    }
    assert "benchmark.py: openvino is left out: openvino not installed" in capsys.readouterr().err
    assert keys(results) == [("jax", "plain", "TSN"), ("jax", "plain", "STM")]


def test_the_report_says_how_speeds_compare(measure):
    results = measure(backends=["jax"])
    results["products"] = {"numpy": [4e10, 8e10, 5e10]}
    report = benchmark_report.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    stm = report["rows"][1]
    assert stm["milliseconds"] == 1250 and stm["videos_per_second"] == 1.6
    assert stm["to_tsn"] == {"ratio": 0.8, "low": 0.8, "high": 0.8}
    # 2 clips of 1 GMAC in 1.25 s, of the best product.
    assert stm["peak_share"] == pytest.approx(2 * 2 * 1e9 / 1.25 / 8e10)
    text = benchmark_report.format_report(report)
    assert re.search(r"jax +plain +STM +1 +1 +1250.0 +1.60 +0.80 +\(0.80-0.80\) +4%$", text, re.MULTILINE)
    assert re.search(r"STM +jax +plain +1.00$", text, re.MULTILINE)
    json.dumps(report, allow_nan=False)


def test_training_counts_as_three_inferences(measure):
    results = measure(backends=["jax"], kinds=["training", "torch_eager"])
    results["products"] = {"numpy": [1e12]}
    report = benchmark_report.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    shares = {row["task"]: row["peak_share"] for row in report["rows"] if row["kind"] == "torch_eager"}
    assert shares["training"] == pytest.approx(3 * shares["inference"])


def test_the_memory_of_training_is_that_of_a_process_which_does_nothing_else(measure):
    results = measure(kinds=["plain", "training", "torch_eager"], backends=["jax"])
    asked = [worker for *_, worker in FakeWorker.asked]
    alone = [worker for method, *_, worker in FakeWorker.asked if method == "memory"]
    assert [worker.name for worker in alone] == ["jax", "jax", OTHERS, OTHERS]
    assert all(asked.count(worker) == 1 and worker.process is None for worker in alone)
    report = benchmark_report.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    memory = [(row["memory_mib"], row["memory_to_tsn"]) for row in report["rows"]]
    assert memory == [(None, None)] * 4 + [(64, 1), (80, 1.25)] * 2
    text = benchmark_report.format_report(report)
    assert re.search(r"jax +training +STM .* 80 +1.25$", text, re.MULTILINE)


def test_where_memory_cannot_be_measured_the_speed_is_told(measure):
    results = measure({("memory", "training STM"): WorkerError("killed")}, kinds=["training"])
    report = benchmark_report.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    assert [row["memory_mib"] for row in report["rows"]] == [64, None] * 2
    assert [row["memory_to_tsn"] for row in report["rows"]] == [1, None] * 2
    assert results["errors"][0] == "training, 8 frames, batch 2: memory of tensorflow training STM: killed"


def test_a_ratio_is_of_the_same_round_with_its_range():
    # The machine became twice as slow: the ratios within the rounds do not see it.
    assert benchmark_report.ratio([1, 2, 2], [2, 4, 5]) == {"ratio": 0.5, "low": 0.4, "high": 0.5}


def test_without_tsn_there_is_no_ratio_to_it(measure):
    results = measure(networks=["STM"], kinds=["plain"])
    report = benchmark_report.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    assert [row["to_tsn"] for row in report["rows"]] == [None, None]
    assert benchmark_report.format_report(report)


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


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel does not tell")
def test_the_memory_of_a_step_is_its_peak():
    steps = Waiting(**STEPS)
    assert 60 < steps.memory("x") < 80
    steps.on_gpu = True
    assert steps.memory("x") is None


def test_an_error_within_a_process_is_told_and_it_goes_on():
    worker = Worker(OTHERS, STEPS)
    try:
        for _ in range(2):
            with pytest.raises(WorkerError, match="KeyError: 'nothing'") as error:
                worker.call("time", key="nothing")
            assert error.value.dead is None
    finally:
        worker.stop()


def test_a_process_that_was_killed_is_told_and_the_next_call_starts_another():
    worker = Worker(OTHERS, STEPS)
    try:
        assert worker.call("is_on_gpu") is False
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        with pytest.raises(WorkerError, match="killed by SIGKILL") as error:
            worker.call("is_on_gpu")
        assert error.value.dead == OTHERS
        assert worker.call("is_on_gpu") is False
    finally:
        worker.stop()


def test_what_a_library_prints_does_not_come_between_the_answers():
    code = """
import os, types, benchmark_worker

def talk():
    print("from Python", flush=True)
    os.system("echo from C")
    return 1

benchmark_worker.make_steps = lambda name, options: types.SimpleNamespace(talk=talk)
benchmark_worker.serve("x", {})
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        input='["talk", {}]\n',
        capture_output=True,
        text=True,
        cwd=os.path.dirname(benchmark_worker.__file__),
    )
    assert process.stdout == '{"result": 1}\n'
    assert "from Python" in process.stderr and "from C" in process.stderr
