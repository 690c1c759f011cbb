"""Worker processes of the benchmark: their answers, their errors and their end."""

import os
import signal
import subprocess
import sys

import pytest

import benchmark
from benchmarks.worker import OTHERS, Worker, WorkerError
from tests.training.benchmarks.fake_worker import STEPS


def test_a_process_goes_on_after_an_error_within_it_and_after_ctrl_c():
    worker = Worker(OTHERS, STEPS)
    try:
        for _ in range(2):
            with pytest.raises(WorkerError, match="KeyError: 'nothing'") as error:
                worker.call("time", key="nothing")
            assert error.value.dead is None
            # A terminal sends Ctrl-C to all processes.
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
import os, types
from benchmarks import worker

def talk():
    print("from Python", flush=True)
    os.system("echo from C")
    return 1

worker.make_steps = lambda name, options: types.SimpleNamespace(talk=talk)
worker.serve("x", {})
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        input='["talk", {}]\n',
        capture_output=True,
        text=True,
        cwd=os.path.dirname(benchmark.__file__),
    )
    assert process.stdout == '{"result": 1}\n'
    assert "from Python" in process.stderr and "from C" in process.stderr
