"""The paper's ablations as one command: its clips, its runs, its numbers and its report."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import psutil
import pytest

import reproduce
import reproduce_counts
import reproduce_data
import reproduce_pool
import reproduce_report
import reproduce_runs
import reproduce_tables
from keras_stm.data import arrow_of_time
from reproduce_runs import Results, Run, Settings
from reproduce_tables import Measured

TINY = dataclasses.replace(Settings(), **reproduce._TINY)


@pytest.fixture(scope="module")
def clips():
    return reproduce_data.make_clips("test", 8, 32)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished campaign: Table 5 with two seeds, and one of them at other clips."""
    output = tmp_path_factory.mktemp("campaign") / "reproduce"
    campaign(output)
    return output


def campaign(output, tables=("5", "clips"), seeds=2, settings=TINY, processes=1):
    with pytest.MonkeyPatch.context() as patch:
        # Two seeds of Table 5 are enough to tell them apart.
        patch.setattr(reproduce_tables, "FEW_SEEDS", 1)
        for module in (reproduce_tables, reproduce_report):
            patch.setattr(module, "clips_tried", lambda settings: [(4, 32), (8, 32)])
        reproduce.reproduce(
            settings, str(output), list(tables), seeds, "python training/reproduce.py", processes=processes
        )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_no_two_splits_share_a_clip_and_the_clips_are_the_harder_variant(clips):
    splits = [clips, *(reproduce_data.make_clips(split, 8, 32) for split in ("train", "validation"))]
    frames = np.concatenate([split.frames for split in splits])
    assert len(np.unique(frames.reshape(24, -1), axis=0)) == 24
    size = clips.frames.shape[2]
    clip = arrow_of_time.make_clip(reproduce_data.CLASS_NAMES[3], (2, 3), True, 32, size)
    np.testing.assert_array_equal(clips.frames[3], clip.frames)
    assert reproduce_data.SHAPES[clips.appearance[3]] == clip.shape


def test_training_batches_depend_on_seed_and_epoch_alone(clips):
    def epochs(seed):
        batches = reproduce_data.training_batches([clips], 4, 32, 4, seed)
        return [list(itertools.islice(batches, 2)) for _ in range(2)]

    (first, second), (again, _), (other, _) = epochs(0), epochs(0), epochs(1)
    np.testing.assert_array_equal(first[1][0], again[1][0])
    for different in (second, other):
        assert not np.array_equal(first[1][0], different[1][0])
    orders = [np.concatenate([labels["motion"] for _, labels in epoch]).tolist() for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8))
    assert orders[0] != orders[1]


def test_each_epoch_has_its_own_clips_and_leaves_out_those_that_fill_no_batch(clips):
    others = clips._replace(motion=clips.motion + 100)
    batches = reproduce_data.training_batches([clips, others], 4, 32, 3, 0)
    labels = [labels["motion"] for _, labels in itertools.islice(batches, 6)]
    assert [(part >= 100).all() for part in labels] == [False, False, True, True, True, True]
    assert all(len(part) == 3 for part in labels)
    assert len(np.unique(np.concatenate(labels[:2]))) == 6


def test_the_first_epochs_see_plain_clips_but_not_those_of_fine_tuning():
    settings = dataclasses.replace(TINY, epochs=2, plain_epochs=1)
    plain, hard = (reproduce_data.make_clips("train", 16, 32, hard) for hard in (False, True))
    assert not np.array_equal(plain.frames, hard.frames)
    first, second = reproduce_runs.clips_of_epochs(Run("tsn", 0, 4, 32), settings)
    np.testing.assert_array_equal(first.frames, plain.frames)
    np.testing.assert_array_equal(second.frames, hard.frames)
    (tuned,) = reproduce_runs.clips_of_epochs(Run("stm", 0, 4, 32, tuned=True), settings)
    np.testing.assert_array_equal(tuned.frames, hard.frames)


def test_a_training_clip_holds_a_frame_of_each_segment_in_order_cropped_alike():
    # Every pixel tells its frame, row and column.
    size = 40
    row, column = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    frames = np.stack([np.stack([np.full_like(row, t), row, column], -1) for t in range(32)])
    clips = reproduce_data.Clips(frames[None].astype("uint8"), np.zeros(1, int), np.zeros(1, int))
    batch, _ = next(reproduce_data.training_batches([clips], 8, 32, 1, 0))
    assert batch.shape == (1, 8, 32, 32, 3)
    prepared = reproduce_data.prepare(frames[None].astype("uint8"), False)
    value = {channel: np.unique(prepared[..., channel]) for channel in range(3)}
    times = np.searchsorted(value[0], batch[0, :, 0, 0, 0])
    assert [time // 4 for time in times] == list(range(8))
    for channel in (1, 2):
        places = np.searchsorted(value[channel], batch[0, ..., channel])
        assert np.ptp(places) == 31 and (places == places[0]).all()


def test_evaluation_gives_every_clip_and_its_exact_reversal_with_the_partners_label(clips):
    batches = reproduce_data.EvaluationBatches(clips, 8, 32, 6)
    seen, labels = zip(*(batches[i] for i in range(len(batches))), strict=True)
    seen = np.concatenate(seen)
    labels = {task: np.concatenate([label[task] for label in labels]) for task in labels[0]}
    assert seen.shape == (16, 8, 32, 32, 3)
    np.testing.assert_array_equal(seen[1::2], seen[::2, ::-1])
    names = [reproduce_data.CLASS_NAMES[label] for label in labels["motion"]]
    assert [arrow_of_time.REVERSED[name] for name in names[::2]] == names[1::2]
    np.testing.assert_array_equal(labels["appearance"][::2], labels["appearance"][1::2])
    for task in labels:
        np.testing.assert_array_equal(batches.labels[task], labels[task])


def test_the_fourth_channel_is_the_change_of_brightness_to_the_next_frame(clips):
    frames = clips.frames[:2, :4]
    prepared = reproduce_data.prepare(frames, True)
    assert prepared.shape[-1] == 4 and prepared.dtype == "float32"
    np.testing.assert_array_equal(prepared[..., :3], reproduce_data.prepare(frames, False))
    brightness = prepared[..., :3].mean(axis=-1)
    np.testing.assert_allclose(prepared[:, :-1, ..., 3], np.diff(brightness, axis=1), atol=1e-6)
    assert not prepared[:, -1, ..., 3].any()
    assert prepared[:, 0, ..., 3].any()


def test_each_run_is_trained_once_and_seeds_come_one_after_the_other():
    runs = reproduce_tables.plan(Settings(), reproduce_tables.NAMES, 5)
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    seeds = [run.seed for run in runs]
    assert seeds == sorted(seeds)
    count = {
        variant: sum(run.variant == variant and not run.tuned for run in runs)
        for variant in ("tsn", "cstm", "cmm", "concat", "mean", "ordinary", "stage2", "tsn_difference")
    }
    assert count == {
        "tsn": 5,
        "cstm": 5,
        "cmm": 5,
        "concat": 5,
        "mean": 5,
        "ordinary": 3,
        "stage2": 3,
        "tsn_difference": 3,
    }
    for i, run in enumerate(runs):
        if run.tuned:
            assert any(other.keeps_weights and other.seed == run.seed for other in runs[:i])


def test_a_plan_can_be_left_at_some_tables_and_networks():
    runs = reproduce_tables.plan(Settings(), ["8"], 2)
    assert {run.variant for run in runs} == {"cstm", "ordinary"}
    assert {run.variant for run in reproduce_tables.plan(Settings(), ["5"], 3, ("tsn", "stm"))} == {
        "tsn",
        "stm",
    }
    clips = reproduce_tables.plan(Settings(), ["clips"], 1)
    assert not clips[0].tuned and {(run.num_frames, run.image_size) for run in clips[1:]} == set(
        reproduce_tables.clips_tried(Settings())
    )


def test_accuracies_of_scores_known_by_hand():
    # Two clips, of classes 0 and 2, each before its reversal, of classes 1 and 3.
    labels = {"motion": np.array([0, 1, 2, 3]), "appearance": np.array([0, 0, 1, 1])}
    motion = np.zeros((4, 8))
    motion[0, 0] = motion[1, 0] = 0.9  # blind: the same for both
    motion[0, 1] = motion[1, 1] = 0.1
    motion[2, 5], motion[2, 2], motion[2, 3] = 0.6, 0.3, 0.1  # wrong, yet right within the pair
    motion[3, 3] = 1.0
    appearance = np.eye(7)[[0, 0, 1, 2]]
    found = reproduce_tables.accuracies({"motion": motion, "appearance": appearance}, labels)
    np.testing.assert_array_equal(found["motion"], [0.5, 0.5])
    np.testing.assert_array_equal(found["within_pair"], [0.5, 1.0])
    np.testing.assert_array_equal(found["appearance"], [1.0, 0.5])


def test_the_interval_is_that_of_the_mean_where_it_is_known():
    rng = np.random.default_rng(0)
    values = np.tile(rng.integers(0, 2, 400).astype(float), (5, 1))
    low, high = Measured(values, (0, 1, 2, 3, 4)).interval()
    mean, error = values.mean(), values[0].std() / 20
    np.testing.assert_allclose((low, high), (mean - 1.96 * error, mean + 1.96 * error), atol=0.01)
    assert Measured(values, (0, 1, 2, 3, 4)).interval() == (low, high)


def test_the_interval_over_seeds_alone_is_as_wide_as_their_spread_says():
    # Where all clips of a seed are alike, the mean of n seeds has their standard deviation over sqrt(n).
    seeds = np.linspace(0, 1, 40)
    low, high = Measured(np.repeat(seeds[:, None], 8, axis=1), tuple(range(40))).interval()
    assert high - low == pytest.approx(2 * 1.96 * seeds.std(ddof=1) / np.sqrt(40), rel=0.05)
    two = Measured(np.array([[0.0], [1.0]]), (0, 1)).interval()
    assert two == pytest.approx((0.5 - np.sqrt(0.5), 0.5 + np.sqrt(0.5)))


def test_the_interval_holds_the_spread_between_seeds_and_the_difference_is_paired():
    seeds = np.repeat(np.linspace(0.2, 0.8, 5)[:, None], 50, axis=1)
    quantity = Measured(seeds, (0, 1, 2, 3, 4))
    low, high = quantity.interval()
    assert high - low > 0.2
    assert quantity.std == pytest.approx(np.std(np.linspace(0.2, 0.8, 5), ddof=1))
    gain = Measured(seeds[1:4] + 0.1, (1, 2, 3)).minus(quantity)
    assert gain.seeds == (1, 2, 3)
    assert gain.interval() == pytest.approx((0.1, 0.1))
    assert Measured(seeds[:1], (7,)).minus(quantity) is None
    assert Measured(seeds[:1], (0,)).std is None


def test_a_model_learns_both_tasks_from_clips_of_any_length():
    model = reproduce_runs.build_model(TINY, "tsn_difference")
    scores = model.predict(np.zeros((2, 3, 32, 32, 4), "float32"), verbose=0)
    assert {task: values.shape for task, values in scores.items()} == {"motion": (2, 8), "appearance": (2, 7)}


def test_counts_of_the_published_networks_are_the_papers():
    counts = reproduce_counts.count(Settings())
    assert counts["cstm"]["parameters"] == 23_875_886
    assert counts["ordinary"]["parameters"] == 27_636_974
    assert counts["stm"]["macs"]["8"] == pytest.approx(33.075e9, rel=1e-4)
    assert counts["stm"]["macs"]["16"] == 2 * counts["stm"]["macs"]["8"]


def test_it_trains_and_reports_without_tensorflow_and_pyav(tmp_path):
    program = f"""
import sys
sys.modules.update(tensorflow=None, av=None)
sys.path.insert(0, {os.path.dirname(reproduce.__file__)!r})
import dataclasses, os
import reproduce, reproduce_report, reproduce_runs
settings = dataclasses.replace(reproduce_runs.Settings(), **reproduce._TINY)
os.makedirs("results")
results = reproduce_runs.Results("results", "")
reproduce_runs.train_on_stills(settings, results)
reproduce_runs.train(reproduce_runs.Run("tsn", 0, 8, settings.image_size), settings, results)
reproduce_report.write(settings, results, ["5"], ".")
"""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
    assert "torch" in (tmp_path / "tables.md").read_text()


@pytest.mark.slow
def test_a_finished_run_tells_what_it_may_depend_on(finished):
    run = Run("stm", 1, 8, 32)
    with open(finished / "results" / f"{run.name}.json") as file:
        record = json.load(file)
    assert record["run"]["seed"] == 1
    assert record["settings"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert record["command"] == "python training/reproduce.py"
    assert record["versions"]["keras"] == keras.__version__ and record["hardware"]["cores"]
    assert "commit" in record
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
def test_the_report_holds_each_table_beside_the_papers_column_and_a_picture(finished):
    text = (finished / "tables.md").read_text()
    table = text[text.index("## Table 5") : text.index("![")]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == ["TSN", "CSTM", "CMM", "STM"]
    assert [row[1].strip() for row in rows[2:]] == ["19.7", "47.7", "44.1", "49.2"]
    assert {row[-1].strip() for row in rows[2:]} == {"2"}
    for picture in ("table5.png", "clips.png"):
        content = (finished / picture).read_bytes()
        assert f"({picture})" in text and content.startswith(b"\x89PNG") and len(content) > 10_000


@pytest.mark.slow
def test_the_summarys_numbers_are_those_of_the_results(finished):
    results = Results(finished / "results", "")
    with open(finished / "summary.json") as file:
        tables = json.load(file)["tables"]
    tsn, cstm, _, stm = tables["5"]["rows"]
    accuracy = {
        row["variant"]: [
            results.read(Run(row["variant"], seed, 8, 32).name)["test"]["motion"] for seed in (0, 1)
        ]
        for row in (tsn, cstm, stm)
    }
    for row in (tsn, cstm, stm):
        assert row["motion"]["mean"] == pytest.approx(np.mean(accuracy[row["variant"]]))
    gain = np.mean(accuracy["cstm"]) - np.mean(accuracy["stm"])
    assert cstm["difference"]["mean"] == pytest.approx(gain) and stm["difference"] is None
    before = next(row for row in tables["clips"]["rows"] if row["trained_at"])["before"]
    assert before["mean"] == pytest.approx(accuracy["stm"][0])


@pytest.mark.slow
def test_tsn_cannot_tell_a_clip_from_its_reversal(finished):
    with open(finished / "summary.json") as file:
        tsn = json.load(file)["tables"]["5"]["rows"][0]
    results = Results(finished / "results", "")
    scores = results.read_scores(Run("tsn", 0, 8, 32).name)["motion"]
    np.testing.assert_allclose(scores[::2], scores[1::2], atol=1e-5)
    assert tsn["variant"] == "tsn" and tsn["motion"]["mean"] <= 0.5


@pytest.mark.slow
def test_all_runs_there_only_the_report_is_written_anew_of_all_tables(finished, monkeypatch, capsys):
    before = contents(finished / "results")
    report = {name: (finished / name).read_text() for name in ("tables.md", "summary.json")}
    for name in report:
        (finished / name).unlink()
    monkeypatch.setattr(reproduce_runs, "train", None)
    campaign(finished, ["5"], 1)
    assert contents(finished / "results") == before
    assert {name: (finished / name).read_text() for name in report} == report
    assert "are there" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_stopped_is_trained_again_and_only_that(finished, tmp_path):
    output = tmp_path / "reproduce"
    shutil.copytree(finished, output)
    before = contents(output / "results")
    # The scores come before the record.
    stopped = Run("stm", 0, 8, 32, tuned=True).name
    (output / "results" / f"{stopped}.json").unlink()
    campaign(output, processes=2)
    after = contents(output / "results")
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert f"{stopped}.json" in changed and changed <= {f"{stopped}.json", f"{stopped}.npz"}


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_leaves_nothing_half_written(finished, tmp_path):
    output = tmp_path / "reproduce"
    # Runs that would take hours.
    command = [sys.executable, reproduce.__file__, "--quick", "--epochs=10000", f"--output={output}"]
    command += ["--processes=2", "--tables=5"]
    os.makedirs(output)
    settings = dataclasses.replace(TINY, epochs=10_000)
    reproduce.claim(str(output), settings)
    (output / "results").mkdir()
    for name in ("stills.json", "stills.weights.h5"):
        shutil.copy(finished / "results" / name, output / "results")
    before = contents(output / "results")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "4 of 4 runs to go\n"
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    # Two that train, and the one that multiprocessing keeps.
    while len(children := parent.children()) < 3 or sum(child.cpu_times().user for child in children) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    # As a terminal does it.
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.strip().splitlines()[-1].startswith("Stopped. The same command goes on")
    assert "Traceback" not in error
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert {name: content for name, content in contents(output / "results").items() if name != ".lock"} == {
        name: content for name, content in before.items() if name != ".lock"
    }


def test_an_unfinished_campaign_has_a_report_of_what_is_there(tmp_path):
    results = Results(tmp_path / "results", "")
    os.makedirs(tmp_path / "results")
    reproduce_report.write(TINY, results, reproduce_tables.NAMES, tmp_path)
    assert "| TSN | 19.7 | – |" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "table9.png").exists()


@pytest.mark.slow
def test_a_folder_of_other_settings_or_of_something_else_is_refused(finished, tmp_path):
    before = contents(finished)
    with pytest.raises(ValueError, match=r"other settings \(epochs 1 there, 2 here\)"):
        campaign(finished, settings=dataclasses.replace(TINY, epochs=2))
    assert contents(finished) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        campaign(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_the_command_says_in_a_line_what_is_wrong(tmp_path):
    process = subprocess.run(
        [sys.executable, reproduce.__file__, "--tables=5,10", f"--output={tmp_path / 'reproduce'}"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("reproduce.py: `tables` must be any of 5, 6, ")
    assert "Traceback" not in process.stderr and not (tmp_path / "reproduce").exists()


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"epochs": 4, "plain_epochs": 4}, {}, "`epochs` must be above 4, .* Received: epochs=4"),
        ({"batch_size": 17}, {}, "`batch_size` must be at most 16, .* Received: batch_size=17"),
        ({}, {"report_only": True}, "`output` holds no results to report. Received: output="),
    ],
)
def test_what_cannot_be_trained_or_reported_is_refused_before_anything_is_written(
    settings, options, message, tmp_path
):
    output = tmp_path / "reproduce"
    settings = dataclasses.replace(TINY, **settings)
    with pytest.raises(ValueError, match=message):
        reproduce.reproduce(settings, str(output), ["5"], 1, "", **options)
    assert not output.exists()


def test_a_job_that_fails_is_named_and_the_others_are_stopped():
    jobs = [
        reproduce_pool.Job("sleeps", time.sleep, (600,)),
        reproduce_pool.Job("fails", os.listdir, ("/no/such/folder",)),
    ]
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="^fails: FileNotFoundError: .*/no/such/folder"):
        reproduce_pool.run(jobs, 2, "none", lambda job, result: None)
    assert time.monotonic() - start < 120
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_an_error_and_no_end_of_waiting():
    jobs = [reproduce_pool.Job("dies", os._exit, (1,))]
    with pytest.raises(RuntimeError):
        reproduce_pool.run(jobs, 1, "none", lambda job, result: None)


def test_a_job_waits_for_what_it_needs(tmp_path):
    ended = []
    jobs = [
        reproduce_pool.Job("second", os.listdir, (str(tmp_path / "made"),)),
        reproduce_pool.Job("first", os.mkdir, (str(tmp_path / "made"),)),
    ]

    def is_ready(job):
        return job.name == "first" or ended == ["first"]

    reproduce_pool.run(jobs, 2, "none", lambda job, result: ended.append(job.name), is_ready)
    assert ended == ["first", "second"]


@pytest.mark.slow
def test_quick_fills_every_table(tmp_path):
    subprocess.run(
        [sys.executable, reproduce.__file__, "--quick", f"--output={tmp_path / 'reproduce'}"],
        check=True,
        timeout=600,
    )
    text = (tmp_path / "reproduce" / "tables.md").read_text()
    assert text.count("## ") == len(reproduce_tables.NAMES)
    with open(tmp_path / "reproduce" / "summary.json") as file:
        tables = json.load(file)["tables"]
    assert all(row["seeds"] == 1 for table in tables.values() for row in table["rows"])
