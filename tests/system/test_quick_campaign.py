"""All of `reproduce.py --quick`, in processes that can load neither TensorFlow nor PyAV."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import reproduce
from reproduction.runs import Results, Run, Settings
from tests.training.reproduction.processes import in_process

TINY = dataclasses.replace(Settings(), **reproduce.TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a quick campaign under PyTorch, in processes that can load neither TensorFlow nor PyAV."""
    folder = tmp_path_factory.mktemp("quick")
    process = in_process("torch", folder, "--quick", "--tables=5,9,clips")
    assert process.returncode == 0, process.stderr[-3000:]
    return folder / "reproduce"


@pytest.mark.slow
def test_a_quick_campaign_fills_its_tables(finished):
    assert "torch" in (finished / "tables.md").read_text()
    with open(finished / "summary.json") as file:
        tables = json.load(file)["tables"]
    for name in ("5", "9"):
        assert all(row["seeds"] == 1 and 0 <= row["motion"]["mean"] <= 1 for row in tables[name]["rows"])
    assert all(row["speed_to_tsn"] > 0 and row["videos_per_second"] > 0 for row in tables["9"]["rows"])
    assert all(row["seeds"] == 1 and -1 <= row["gain"]["mean"] <= 1 for row in tables["clips"]["rows"])
    assert len(tables["clips"]["rows"]) == 5


@pytest.mark.slow
def test_a_finished_run_tells_what_it_may_depend_on(finished):
    run = Run("stm", 0, 8, 32)
    with open(finished / "results" / f"{run.name}.json") as file:
        record = json.load(file)
    assert record["run"] == dataclasses.asdict(run)
    assert record["settings"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert record["command"].endswith("--quick --tables=5,9,clips")
    assert record["versions"]["keras"] == keras.__version__ and record["hardware"]["cores"]
    assert "commit" in record and record["backend"] == "torch"
    assert len(record["history"]["val_motion_accuracy"]) == TINY.epochs
    assert set(record["test"]) == {"motion", "appearance"}


@pytest.mark.slow
def test_the_test_accuracy_is_that_of_the_scores_beside_it(finished):
    results = Results(finished / "results", "")
    name = Run("cmm", 0, 8, 32).name
    scores = results.read_scores(name)
    hits = scores["motion"].argmax(axis=1) == scores["motion_labels"]
    assert results.read(name)["test"]["motion"] == hits.mean()
    assert len(hits) == 2 * TINY.num_test


@pytest.mark.slow
def test_fine_tuning_starts_from_the_trained_networks_weights(finished):
    results = Results(finished / "results", "")
    trained = results.read_scores(Run("stm", 0, 8, 32).name)
    tuned = results.read_scores(Run("stm", 0, 8, 32, tuned=True).name)
    np.testing.assert_allclose(tuned["motion_before"], trained["motion"], atol=1e-5)
    assert not np.allclose(tuned["motion"], trained["motion"], atol=1e-5)


@pytest.mark.slow
def test_tsn_cannot_tell_a_clip_from_its_reversal(finished):
    with open(finished / "summary.json") as file:
        tsn = json.load(file)["tables"]["5"]["rows"][0]
    results = Results(finished / "results", "")
    scores = results.read_scores(Run("tsn", 0, 8, 32).name)["motion"]
    np.testing.assert_allclose(scores[::2], scores[1::2], atol=1e-5)
    assert tsn["variant"] == "tsn" and tsn["motion"]["mean"] <= 0.5
