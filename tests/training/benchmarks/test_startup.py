"""The time to import the package and to build a network."""

import re
import types

import pytest

from benchmarks import report as reports
from benchmarks import startup as startups
from benchmarks.worker import WorkerError
from tests.training.benchmarks.fake_worker import STEPS, FakeWorker


def test_what_ours_adds_to_starting_up_is_of_rounds_in_turn(monkeypatch, capsys):
    asked = []

    def time_one(library):
        asked.append(library)
        # The first import of each library reads from the disk.
        return (1.0 if library == "keras" else 1.5) + 100 * (asked.count(library) == 1)

    monkeypatch.setattr(startups, "time_import", lambda library, backend: time_one(library))
    failing = types.SimpleNamespace(call=FakeWorker("jax", STEPS).call)
    monkeypatch.setattr(FakeWorker, "failing", {("start_up", None): WorkerError("no memory")})
    errors = []
    rows = startups.measure(
        types.SimpleNamespace(backends=["jax"], rounds=2),
        {"jax": failing},
        lambda what, error: errors.append(f"{what}: {error}"),
    )
    assert asked == ["keras_stm", "keras", "keras", "keras_stm", "keras_stm", "keras"]
    assert errors == ["start-up, jax: build: no memory"]
    results = {"rows": [], "startup": rows, "products": {}, "left_out": {}}
    options = types.SimpleNamespace(image_size=224, matrix_size=8)
    report = reports.summarize(results, options)
    (row,) = report["startup"]
    assert (row["backend"], row["what"], row["seconds_over"], row["ratio"]) == ("jax", "import", 0.5, 1.5)
    assert re.search(r"jax +import +1.00 +1.50 +\+0.50 +1.50", reports.format_report(report))


def test_an_import_is_timed_in_a_process_of_its_own():
    assert 0 < startups.time_import("wave", "jax") < 10
    with pytest.raises(WorkerError, match="ModuleNotFoundError.*'nothing_here'"):
        startups.time_import("nothing_here", "jax")
