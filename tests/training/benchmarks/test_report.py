"""The report that is made of the measured times."""

import json
import re
import types

import pytest

from benchmarks import report as reports
from benchmarks.worker import OTHERS, WorkerError
from tests.training.benchmarks.fake_worker import FakeWorker


def test_the_report_says_how_speeds_compare(measure):
    results = measure(backends=["jax"])
    results["products"] = {"numpy": [4e10, 8e10, 5e10]}
    report = reports.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    stm = report["rows"][1]
    assert stm["milliseconds"] == 1250 and stm["videos_per_second"] == 1.6
    assert stm["to_tsn"] == {"ratio": 0.8, "low": 0.8, "high": 0.8}
    # 2 clips of 1 GMAC in 1.25 s, as a share of the fastest product.
    assert stm["peak_share"] == pytest.approx(2 * 2 * 1e9 / 1.25 / 8e10)
    text = reports.format_report(report)
    assert re.search(r"jax +plain +STM +1 +1 +1250.0 +1.60 +0.80 +\(0.80-0.80\) +4%$", text, re.MULTILINE)
    assert re.search(r"STM +jax +plain +1.00$", text, re.MULTILINE)
    json.dumps(report, allow_nan=False)


def test_training_counts_as_three_inferences(measure):
    results = measure(backends=["jax"], kinds=["training", "torch_eager"])
    results["products"] = {"numpy": [1e12]}
    report = reports.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    shares = {row["task"]: row["peak_share"] for row in report["rows"] if row["kind"] == "torch_eager"}
    assert shares["training"] == pytest.approx(3 * shares["inference"])


def test_the_memory_of_training_is_that_of_a_process_which_does_nothing_else(measure):
    results = measure(kinds=["plain", "training", "torch_eager"], backends=["jax"])
    asked = [worker for *_, worker in FakeWorker.asked]
    alone = [worker for method, *_, worker in FakeWorker.asked if method == "memory"]
    assert [worker.name for worker in alone] == ["jax", "jax", OTHERS, OTHERS]
    assert all(asked.count(worker) == 1 and worker.process is None for worker in alone)
    report = reports.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    memory = [(row["memory_mib"], row["memory_to_tsn"]) for row in report["rows"]]
    assert memory == [(None, None)] * 4 + [(64, 1), (80, 1.25)] * 2
    text = reports.format_report(report)
    assert re.search(r"jax +training +STM .* 80 +1.25$", text, re.MULTILINE)


def test_where_memory_cannot_be_measured_the_speed_is_told(measure):
    results = measure({("memory", "training STM"): WorkerError("killed")}, kinds=["training"])
    report = reports.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    assert [row["memory_mib"] for row in report["rows"]] == [64, None] * 2
    assert [row["memory_to_tsn"] for row in report["rows"]] == [1, None] * 2
    assert results["errors"][0] == "training, 8 frames, batch 2: memory of tensorflow training STM: killed"


def test_a_ratio_is_of_the_same_round_with_its_range():
    # The machine became twice as slow, which does not change the ratios within the rounds.
    assert reports.ratio([1, 2, 2], [2, 4, 5]) == {"ratio": 0.5, "low": 0.4, "high": 0.5}


def test_without_tsn_there_is_no_ratio_to_it(measure):
    results = measure(networks=["STM"], kinds=["plain"])
    report = reports.summarize(results, types.SimpleNamespace(image_size=224, matrix_size=8))
    assert [row["to_tsn"] for row in report["rows"]] == [None, None]
    assert reports.format_report(report)
