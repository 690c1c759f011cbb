"""`training/benchmark.py`: its flags, and how it ends."""

import json
import os
import signal

import pytest

import benchmark
from benchmarks import networks
from benchmarks.worker import WorkerError
from keras_stm.commands import flags
from tests.training.benchmarks.fake_worker import FakeWorker


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
        ("--json=.", "not a folder"),
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
    monkeypatch.setattr(networks, "is_installed", lambda package: package != "jax")
    with pytest.raises(SystemExit, match="jax is not installed"):
        benchmark.main(["benchmark.py", "--backends=jax"])
    assert FakeWorker.asked == []


def test_flags_of_ones_own_go_before_those_of_quick_and_full():
    def options(*arguments):
        values, _ = flags.parse(benchmark.define_flags, ["benchmark.py", *arguments], "")
        return benchmark.read_options(values)

    usual, full = options(), options("--full", "--batch_sizes=4,4")
    assert (usual.num_frames, usual.batch_sizes, usual.depths, usual.width) == ([8], [2], [3, 4, 6, 3], 64)
    assert (full.num_frames, full.batch_sizes) == ([8, 16], [4])
    quick = options("--quick", "--width=16")
    assert (quick.depths, quick.width, quick.image_size) == ([1, 1, 1, 1], 16, 32)


QUICK = ["benchmark.py", "--quick", "--backends=torch", "--networks=TSN", "--kinds=plain", "--batch_sizes=1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_it_was_stopped_is_reported(number, made_up, tmp_path, monkeypatch, capsys):
    def stop(method):
        if [each[0] for each in FakeWorker.asked].count("time") == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(FakeWorker, "on_call", staticmethod(stop))
    status = benchmark.main([*QUICK, "--rounds=100000", f"--json={tmp_path / 'speed.json'}"])
    output, errors = capsys.readouterr()
    assert status == 1
    assert errors.splitlines()[-1].endswith("ERROR: stopped: the remaining steps are not measured")
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(row["seconds"]) == 2 and "TSN" in output
    assert all(worker.process is None for *_, worker in FakeWorker.asked)


def test_an_error_is_told_again_at_the_end_and_by_the_exit_status(made_up, monkeypatch, capsys):
    for failing, status in (({}, 0), ({("time", "plain TSN"): WorkerError("OutOfMemory")}, 1)):
        monkeypatch.setattr(FakeWorker, "failing", failing)
        assert benchmark.main(QUICK) == status
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.endswith("torch plain TSN: OutOfMemory") is bool(failing)
