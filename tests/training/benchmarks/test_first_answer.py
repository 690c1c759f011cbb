"""`--what=startup`: the parts of a start, and what is printed of them."""

import json
import subprocess
import types

import pytest

from benchmarks import first_answer

OPTIONS = {"backends": ["tensorflow", "jax"], "num_frames": [4], "image_size": 32, "rounds": 3}


@pytest.fixture
def processes(monkeypatch):
    """Processes that begin at 100 seconds; the first one reads from the disk, and jax fails."""
    asked = []

    def run(command, env, **arguments):
        asked.append((env["KERAS_BACKEND"], *command[2:]))
        slow = 50 if len(asked) == 1 else 0
        times = [slow + time for time in (101, 106, 108, 111, 113, 114)]
        failed = env["KERAS_BACKEND"] == "jax"
        return types.SimpleNamespace(returncode=failed, stdout=json.dumps(times), stderr="a\nno memory\n")

    monkeypatch.setattr(first_answer, "write", lambda folder, options: ("m.keras", "a.mp4"))
    monkeypatch.setattr(first_answer.time, "time", lambda: 100)
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_each_part_is_the_median_of_new_processes_and_a_backend_that_fails_is_named(processes, capsys):
    assert first_answer.measure(types.SimpleNamespace(**OPTIONS)) == 1
    assert processes == [("tensorflow", "m.keras", "a.mp4")] * 4 + [("jax", "m.keras", "a.mp4")]
    captured = capsys.readouterr()
    rows = [line.rsplit(maxsplit=2) for line in captured.out.splitlines()[3:-1]]
    assert [name for name, *_ in rows] == list(first_answer.PARTS.values())
    # The second clip took one second: the rest of the first one's two is tracing.
    assert [float(seconds) for _, seconds, _ in rows] == [1, 5, 2, 3, 1, 1]
    assert [share for *_, share in rows] == ["8%", "38%", "15%", "23%", "8%", "8%"]
    assert captured.out.endswith("13.00\n") and captured.err == "benchmark.py: ERROR: jax: no memory\n"
