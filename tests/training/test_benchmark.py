"""`training/benchmark.py`: that it measures all it promises, and what it makes of the times."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import benchmark
import benchmark_networks
import benchmark_report
import benchmark_startup
import benchmark_worker
import command_line
from benchmark_steps import NETWORKS, Steps
from benchmark_worker import OTHERS, Worker, WorkerError
from tests.reference.backend import compute, relative_error

STEPS = {
    "depths": [1, 1, 1, 1],
    "width": 16,
    "image_size": 32,
    "mixed_precision": "none",
    "jit_compile": None,
    "least_seconds": 0,
}


def quick(path, *arguments):
    """The report of a quick run in a process, of which each number is looked at."""
    process = subprocess.run(
        [sys.executable, benchmark.__file__, "--quick", "--networks=TSN", f"--json={path}", *arguments],
        capture_output=True,
        text=True,
        # More threads would wait for each other: the tests run in one process per core.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
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
    report = quick(tmp_path / "speed.json", "--backends=torch", "--kinds=plain", "--batch_sizes=2")
    assert measured(report) == {("inference", 2, "torch", "plain", "TSN")}
    assert os.listdir(tmp_path) == ["speed.json"]


@pytest.mark.slow
def test_a_quick_run_measures_every_kind(tmp_path):
    # Under TensorFlow, which has all kinds of our own. Compiling and starting up take longest.
    kinds = [kind for kind in benchmark_networks.KINDS if kind not in ("torch_compile", "startup")]
    report = quick(
        tmp_path / "speed.json", "--backends=tensorflow", f"--kinds={','.join(kinds)}", "--batch_sizes=1"
    )
    assert report["left_out"] == {}
    others = {"torch_eager", "openvino", "onnxruntime"}
    expected = {("training", 2, "tensorflow", "training", "TSN"), ("training", 2, None, "torch_eager", "TSN")}
    expected |= {("inference", 1, "tensorflow", kind, "TSN") for kind in ("plain", "folded", "saved_model")}
    expected |= {("inference", 1, None, kind, "TSN") for kind in others}
    assert measured(report) == expected
    assert {each["against"] for each in report["comparisons"]} == others


@pytest.mark.slow
def test_a_process_of_pytorch_builds_trains_and_clears_what_it_has():
    worker = Worker("torch", STEPS)
    try:
        for library in benchmark_startup.LIBRARIES:
            assert worker.call("start_up", library=library) > 0
        step = {"task": "training", "kind": "training", "network": "STM", "frames": 4, "batch": 1}
        worker.call("prepare", key="step", path=None, **step)
        assert worker.call("time", key="step") > 0
        worker.call("clear")
        with pytest.raises(WorkerError, match="KeyError: 'step'"):
            worker.call("time", key="step")
    finally:
        worker.stop()


@pytest.mark.slow
def test_plain_pytorch_is_measured_compiled(monkeypatch):
    import torch

    from benchmark_others import OtherSteps

    compiled = []

    def compile_eagerly(network, **options):
        compiled.append(options)
        # Without C++, which takes longest.
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


# The others are these without a branch.
@pytest.mark.parametrize("network", ["STM", "TSM"])
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
    clips = rng.normal(size=(2, 4, 32, 32, 3)).astype("float32")
    with torch.inference_mode():
        scores = plain.eval()(torch.from_numpy(clips)).numpy()
    assert relative_error(scores, compute(logits, clips)) < 1e-4


def test_plain_pytorch_has_the_branches_of_each_network():
    import benchmark_torch

    branches = {}
    for name in NETWORKS:
        state = benchmark_torch.Network(name, STEPS["depths"], STEPS["width"]).state_dict()
        branches[name] = [
            branch
            for branch, part in (("cstm", "shift"), ("cmm", "mb.shift"))
            if f"layer4.0.{part}.weight" in state
        ]
    assert branches == {
        **{"TSN": [], "TSM": [], "CSTM": ["cstm"], "CMM": ["cmm"]},
        "STM": ["cstm", "cmm"],
    }


@pytest.mark.parametrize(
    "flag, wrong",
    [
        ("--backends=theano", "'theano'"),
        ("--networks=STM,I3D", "'I3D'"),
        ("--networks=", "''"),
        ("--kinds=fast", "'fast'"),
        ("--compared_networks=x", "'x'"),
        ("--num_frames=8,0", "0 is not a positive integer"),
        ("--batch_sizes=", "nothing"),
        ("--batch_sizes=2.5", "2.5"),
        ("--depths=3,4,six,3", "whole numbers"),
        ("--depths=3,4,6", "four"),
        ("--json=nowhere/speed.json", "no folder"),
        ("--json=.", "is a folder"),
    ],
)
def test_a_wrong_flag_is_named_before_anything_is_measured(
    flag, wrong, made_up, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        benchmark.main(["benchmark.py", "--quick", flag])
    line = error.value.code
    assert line.startswith("benchmark.py: ")
    assert flag.partition("=")[0] in line and wrong in line
    assert FakeWorker.asked == [] and os.listdir(tmp_path) == [] and capsys.readouterr().out == ""


def test_a_backend_that_is_not_installed_is_named(made_up, monkeypatch):
    monkeypatch.setattr(benchmark_networks, "is_installed", lambda package: package != "jax")
    with pytest.raises(SystemExit, match="jax is not installed"):
        benchmark.main(["benchmark.py", "--backends=jax"])
    assert FakeWorker.asked == []


def test_flags_of_ones_own_go_before_those_of_quick_and_full():
    def options(*arguments):
        values, _ = command_line.parse(benchmark.define_flags, ["benchmark.py", *arguments], "")
        return benchmark.read_options(values)

    usual, full = options(), options("--full", "--batch_sizes=4,4")
    assert (usual.num_frames, usual.batch_sizes, usual.depths, usual.width) == ([8], [2], [3, 4, 6, 3], 64)
    assert (full.num_frames, full.batch_sizes) == ([8, 16], [4])
    quick = options("--quick", "--width=16")
    assert (quick.depths, quick.width, quick.image_size) == ([1, 1, 1, 1], 16, 32)


class FakeWorker:
    """Answers at once, each step after its own number of seconds, and keeps what it was asked."""

    asked = []
    seconds = {"TSN": 1.0, "STM": 1.25}
    mib = {"TSN": 64.0, "STM": 80.0}
    # `{(method, key): the error}`
    failing = {}
    # Called with every method.
    on_call = staticmethod(lambda method: None)

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.process = "running"

    def call(self, method, key=None, network=None, **arguments):
        self.asked.append((method, self.name, key, self))
        self.on_call(method)
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
def made_up(monkeypatch):
    """Has the command work with workers that are none."""
    monkeypatch.setattr(benchmark_networks, "Worker", FakeWorker)
    monkeypatch.setattr(benchmark_networks, "PAUSE", 0)
    monkeypatch.setattr(FakeWorker, "asked", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def measure(made_up, monkeypatch):
    """Function that measures with such workers, and returns the results."""
    monkeypatch.setattr(benchmark_networks, "is_installed", lambda package: package != "openvino")

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


QUICK = ["benchmark.py", "--quick", "--backends=torch", "--networks=TSN", "--kinds=plain", "--batch_sizes=1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_it_was_stopped_is_reported(number, made_up, tmp_path, monkeypatch, capsys):
    def stop(method):
        if [each[0] for each in FakeWorker.asked].count("time") == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(FakeWorker, "on_call", staticmethod(stop))
    with pytest.raises(SystemExit) as error:
        benchmark.main([*QUICK, "--rounds=100000", f"--json={tmp_path / 'speed.json'}"])
    output, errors = capsys.readouterr()
    assert error.value.code == 1
    assert errors.splitlines()[-1].endswith("ERROR: stopped: what was to follow is not measured")
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(row["seconds"]) == 2 and "TSN" in output
    assert all(worker.process is None for *_, worker in FakeWorker.asked)


def test_an_error_is_told_again_at_the_end_and_by_the_exit_status(made_up, monkeypatch, capsys):
    for failing, status in (({}, 0), ({("time", "plain TSN"): WorkerError("OutOfMemory")}, 1)):
        monkeypatch.setattr(FakeWorker, "failing", failing)
        with pytest.raises(SystemExit) as error:
            benchmark.main(QUICK)
        assert error.value.code == status
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.endswith("torch plain TSN: OutOfMemory") is bool(failing)


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


def test_what_ours_adds_to_starting_up_is_of_rounds_in_turn(monkeypatch, capsys):
    asked = []

    def time_one(library):
        asked.append(library)
        # The first of each reads from the disk.
        return (1.0 if library == "keras" else 1.5) + 100 * (asked.count(library) == 1)

    monkeypatch.setattr(benchmark_startup, "time_import", lambda library, backend: time_one(library))
    failing = types.SimpleNamespace(call=FakeWorker("jax", STEPS).call)
    monkeypatch.setattr(FakeWorker, "failing", {("start_up", None): WorkerError("no memory")})
    errors = []
    startup = benchmark_startup.measure(
        types.SimpleNamespace(backends=["jax"], rounds=2),
        {"jax": failing},
        lambda what, error: errors.append(f"{what}: {error}"),
    )
    assert asked == ["keras_stm", "keras", "keras", "keras_stm", "keras_stm", "keras"]
    assert errors == ["start-up, jax: build: no memory"]
    results = {"rows": [], "startup": startup, "products": {}, "left_out": {}}
    options = types.SimpleNamespace(image_size=224, matrix_size=8)
    report = benchmark_report.summarize(results, options)
    (row,) = report["startup"]
    assert (row["backend"], row["what"], row["seconds_over"], row["ratio"]) == ("jax", "import", 0.5, 1.5)
    assert re.search(r"jax +import +1.00 +1.50 +\+0.50 +1.50", benchmark_report.format_report(report))


def test_an_import_is_timed_in_a_process_of_its_own():
    assert 0 < benchmark_startup.time_import("wave", "jax") < 10
    with pytest.raises(WorkerError, match="ModuleNotFoundError.*'nothing_here'"):
        benchmark_startup.time_import("nothing_here", "jax")


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


def test_a_process_goes_on_after_an_error_within_it_and_after_ctrl_c():
    worker = Worker(OTHERS, STEPS)
    try:
        for _ in range(2):
            with pytest.raises(WorkerError, match="KeyError: 'nothing'") as error:
                worker.call("time", key="nothing")
            assert error.value.dead is None
            # A terminal sends it to all processes.
            worker.process.send_signal(signal.SIGINT)
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
