"""The paper's ablations as one command: its clips, its runs, its numbers and its report."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import matplotlib.figure
import numpy as np
import pytest

import keras_stm
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
from tests.reference.backend import compute

TINY = dataclasses.replace(Settings(), **reproduce.TINY)


@pytest.fixture(scope="module")
def clips():
    return reproduce_data.make_clips("test", 8, 32)


class MadeUp:
    """In place of `reproduce_pool.run`: writes made-up results at once, and keeps what was asked for.

    `on_job` is called with each job before it is done.
    """

    def __init__(self, on_job=lambda job: None):
        self.jobs = []
        self.on_job = on_job

    @property
    def names(self):
        return [job.name for job in self.jobs]

    def __call__(
        self, jobs, processes, mixed_precision, on_end, is_ready=lambda job: True, show=lambda done: None
    ):
        waiting, done = list(jobs), 0.0
        while waiting:
            job = next(filter(is_ready, waiting))
            waiting.remove(job)
            self.jobs.append(job)
            self.on_job(job)
            record = make_up(job)
            done += job.cost
            show(done)
            on_end(job, record)


def make_up(job):
    """Does a job as it would be done, but for the training and the measuring."""
    if job.name == reproduce_runs.STILLS:
        settings, results = job.arguments
        write_no_weights(results, job.name)
        record = {"history": {"val_appearance_accuracy": [0.5]}}
    elif job.name in ("counts", "speed"):
        *_, results = job.arguments
        networks = [
            (variant, frames) for variant in ("tsn", "tsm", "stm", "cstm", "ordinary") for frames in (8, 16)
        ]
        if job.name == "counts":
            record = {}
            for variant, frames in networks:
                count = record.setdefault(variant, {"parameters": 12_340_000, "macs": {}})
                count["macs"][str(frames)] = 4.56e9 * frames / 8
        else:
            speeds = {variant: {"8": 30.0, "16": 15.0} for variant, _ in networks}
            record = {"batch_size": 1, "videos_per_second": speeds, "to_tsn": speeds}
    else:
        run, settings, results = job.arguments
        rng = np.random.default_rng(list(run.name.encode()))
        # As many as there are, of few clips.
        labels = {"motion": np.arange(16) % 8, "appearance": np.repeat(np.arange(8) % 7, 2)}
        scores = {f"{task}_labels": values for task, values in labels.items()}
        for end in ("", "_before") if run.tuned else ("",):
            scores[f"motion{end}"], scores[f"appearance{end}"] = rng.random((16, 8)), rng.random((16, 7))
        results.write_scores(run.name, scores)
        if run.keeps_weights:
            write_no_weights(results, run.name)
        record = {
            "run": dataclasses.asdict(run),
            "test": {task: float(np.mean(scores[task].argmax(axis=1) == labels[task])) for task in labels},
        }
    results.write(job.name, record)
    return record


def write_no_weights(results, name):
    model = types.SimpleNamespace(save_weights=lambda path: pathlib.Path(path).write_text("weights"))
    results.write_weights(name, model)


@contextlib.contextmanager
def made_up_results(on_job=lambda job: None, report=False, pictures=False):
    """Has the command make results up, without a report unless told, and that without pictures: `MadeUp`."""
    made_up = MadeUp(on_job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce_pool, "run", made_up)
        if not report:
            patch.setattr(reproduce_report, "write", lambda *args: None)
        elif not pictures:
            # They take longest.
            patch.setattr(
                matplotlib.figure.Figure, "savefig", lambda self, path, **_: open(path, "w").close()
            )
        yield made_up


def campaign(output, tables=("5", "clips"), seeds=2, settings=TINY, **options):
    """Runs the command's function with made-up results, and returns what it asked for: `MadeUp`."""
    with made_up_results(**options) as made_up:
        reproduce.reproduce(settings, str(output), list(tables), seeds, "")
    return made_up


def command(*flags):
    """The command in this process, as `campaign`."""
    with made_up_results() as made_up:
        reproduce.main(["training/reproduce.py", *flags])
    return made_up


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a finished campaign with made-up results: Tables 5 and 9 and the clips, two seeds."""
    output = tmp_path_factory.mktemp("campaign") / "reproduce"
    campaign(output, ["5", "9", "clips"], report=True, pictures=True)
    return output


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a quick campaign under PyTorch, with neither TensorFlow nor PyAV to be loaded."""
    folder = tmp_path_factory.mktemp("quick")
    process = in_process("torch", folder, "--quick", "--tables=5,9,clips")
    assert process.returncode == 0, process.stderr[-3000:]
    return folder / "reproduce"


def in_process(backend, folder, *flags):
    """The command in a process that can load neither TensorFlow nor PyAV, nor can those that it starts."""
    for name in ("tensorflow", "av"):
        (folder / f"{name}.py").write_text("raise ImportError('not to be loaded here')")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, reproduce.__file__, f"--output={folder / 'reproduce'}", *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
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


def test_a_plan_has_the_runs_of_each_row_of_its_tables():
    def variants(tables, **options):
        return [run.variant for run in reproduce_tables.plan(Settings(), tables, 1, **options)]

    assert variants(["6"]) == ["tsn", "stm", "concat", "mean"]
    assert variants(["7"]) == ["stage2", "stage3", "stage4", "stage5", "first", "stm"]
    assert variants(["8"]) == ["cstm", "ordinary"]
    assert variants(["difference"]) == ["tsn", "tsn_difference", "stm"]
    assert variants(["5"], variants=("tsn", "stm")) == ["tsn", "stm"]
    runs = reproduce_tables.plan(Settings(), ["9"], 1)
    assert [(run.variant, run.num_frames) for run in runs] == [
        *[("tsn", 8), ("tsm", 8), ("tsm", 16)],
        *[("stm", 8), ("stm", 16)],
    ]
    assert {run.variant for run in reproduce_tables.plan(Settings(), reproduce_tables.NAMES, 1)} == set(
        reproduce_runs.VARIANTS
    )


def test_a_trained_network_is_tried_at_other_lengths_and_sizes_of_clips():
    trained, *tuned = reproduce_tables.plan(Settings(), ["clips"], 1)
    assert trained == Run("stm", 0, 8, 32) and trained.keeps_weights and trained.origin(Settings()) is None
    assert [(run.num_frames, run.image_size) for run in tuned] == [
        (4, 32),
        (8, 32),
        (16, 32),
        (8, 21),
        (8, 43),
    ]
    assert all(run.tuned and run.origin(Settings()) == trained for run in tuned)
    assert not any(run.keeps_weights for run in tuned)


def test_each_run_starts_when_what_it_starts_from_is_there(tmp_path):
    names = campaign(tmp_path / "reproduce", ["8", "clips"], 2).names
    assert names[:3] == ["counts", "speed", "stills"]
    for seed in (0, 1):
        origin = names.index(f"stm-8x32-seed{seed}")
        assert origin < min(i for i, name in enumerate(names) if name.endswith(f"tuned-seed{seed}"))


def test_the_network_of_published_size_is_left_at_table_5_and_two_networks(tmp_path):
    made_up = command(
        "--network=resnet50", "--mixed_precision=bfloat16", f"--output={tmp_path / 'reproduce'}"
    )
    stills, *runs = made_up.jobs
    assert [run.name for run in runs] == [
        f"{variant}-8x112-seed{seed}" for seed in (0, 1, 2) for variant in ("tsn", "stm")
    ]
    settings, _ = stills.arguments
    assert (settings.depths, settings.width, settings.reduction) == ((3, 4, 6, 3), 64, 16)
    assert settings.mixed_precision == "bfloat16" and settings.epochs == Settings().epochs


def test_flags_of_ones_own_go_before_those_of_quick(tmp_path):
    flags = [
        "--quick",
        "--tables=8",
        "--epochs=3",
        "--learning_rate=0.1",
        f"--output={tmp_path / 'reproduce'}",
    ]
    jobs = {job.name: job.arguments for job in command(*flags).jobs}
    assert set(jobs) == {"counts", "speed", "stills", "cstm-8x32-seed0", "ordinary-8x32-seed0"}
    run, settings, results = jobs["cstm-8x32-seed0"]
    assert settings == dataclasses.replace(TINY, epochs=3, learning_rate=0.1)
    assert results.read(run.name)["command"] == f"python training/reproduce.py {' '.join(flags)}"


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


def test_a_model_has_scores_of_both_tasks_for_clips_of_any_length():
    model = reproduce_runs.build_model(TINY, "tsn_difference")
    scores = compute(model, np.zeros((2, 3, 32, 32, 4), "float32"))
    assert {task: tuple(values.shape) for task, values in scores.items()} == {
        "motion": (2, 8),
        "appearance": (2, 7),
    }


@pytest.mark.slow
def test_each_network_has_scores_of_both_tasks():
    for variant in reproduce_runs.VARIANTS:
        model = reproduce_runs.build_model(TINY, variant)
        scores = compute(model, np.zeros((1, 8, 32, 32, model.input_shape[-1]), "float32"))
        assert scores["motion"].shape == (1, 8) and scores["appearance"].shape == (1, 7)


def test_counts_are_of_the_published_networks():
    # The numbers of the published ones are tested with the models.
    assert (Settings().published, Settings().published_size) == (((3, 4, 6, 3), 64), 224)
    counts = reproduce_counts.count(TINY)
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, classes=174, branches=("cstm",), temporal_conv="ordinary")
    found = counts["ordinary"]
    assert found["parameters"] == sum(np.prod(weight.shape) for weight in model.trainable_weights)
    macs = keras_stm.count_macs(model, (8, 64, 64, 3))
    assert found["macs"] == {"8": macs, "16": 2 * macs}
    assert counts["cstm"]["parameters"] < found["parameters"]


def test_the_command_starts_and_reports_without_tensorflow_and_pyav(tmp_path):
    # The folder of a command under JAX, which starts the fastest.
    output = tmp_path / "reproduce"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "jax")
        reproduce.claim(str(output), TINY)
    process = in_process("jax", tmp_path, "--quick", "--report_only", "--tables=5")
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout == f"Report: {output / 'tables.md'}\n"
    assert (output / "table5.png").exists()


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


def rows_of(text, title):
    """The cells of a table's rows."""
    table = text[text.index(title) :].partition("![")[0]
    lines = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_the_report_holds_each_table_beside_the_papers_column_and_a_picture(reported):
    text = (reported / "tables.md").read_text()
    rows = rows_of(text, "## Table 5")
    assert [row[:2] for row in rows] == [["TSN", "19.7"], ["CSTM", "47.7"], ["CMM", "44.1"], ["STM", "49.2"]]
    assert {row[-1] for row in rows} == {"2"}
    assert rows_of(text, "## Table 9")[-1][-4:] == [
        "12.34 M (24.0 M)",
        "9.12 (66.5)",
        "15.00 (32.0)",
        "15.00",
    ]
    clips = rows_of(text, f"## {reproduce_tables.CLIPS_TITLE}")
    assert [row[:2] for row in clips] == [
        *[["4", "32"], ["8", "32 (trained at)"], ["16", "32"]],
        *[["8", "21"], ["8", "43"]],
    ]
    for picture in ("table5.png", "table9.png", "clips.png"):
        content = (reported / picture).read_bytes()
        assert f"({picture})" in text and content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_summarys_numbers_are_those_of_the_results(reported):
    results = Results(reported / "results", "")
    with open(reported / "summary.json") as file:
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
    for row in tables["clips"]["rows"]:
        runs = [Run("stm", seed, row["num_frames"], row["image_size"], tuned=True) for seed in (0, 1)]
        scores = [results.read_scores(run.name) for run in runs]
        before, after = (
            np.mean([each[name].argmax(axis=1) == each["motion_labels"] for each in scores])
            for name in ("motion_before", "motion")
        )
        assert row["before"]["mean"] == pytest.approx(before) and row["after"]["mean"] == pytest.approx(after)
        assert row["gain"]["mean"] == pytest.approx(after - before)


def test_all_runs_there_only_the_report_is_written_anew_of_all_tables(reported, tmp_path, capsys):
    output = tmp_path / "reproduce"
    shutil.copytree(reported, output)
    before = contents(output / "results")
    report = {name: (output / name).read_text() for name in ("tables.md", "summary.json")}
    for name in report:
        (output / name).unlink()
    assert campaign(output, ["5"], 1, report=True).names == []
    assert contents(output / "results") == before
    assert {name: (output / name).read_text() for name in report} == report
    assert "are there" in capsys.readouterr().out


def test_a_run_that_was_stopped_is_trained_again_and_only_that(tmp_path):
    output = tmp_path / "reproduce"
    campaign(output, ["clips"], 1)
    # The scores come before the record, and the weights do.
    for run in (Run("stm", 0, 4, 32, tuned=True), Run("stm", 0, 8, 32)):
        before = contents(output / "results")
        (output / "results" / f"{run.name}.json").unlink()
        assert campaign(output, ["clips"], 1).names == [run.name]
        assert set(contents(output / "results")) == set(before)


def test_stopped_it_reports_what_is_there_and_the_same_command_goes_on(tmp_path):
    output = tmp_path / "reproduce"

    def stop(job):
        # Another command is refused meanwhile.
        with pytest.raises(ValueError, match="Another process"), Results(output / "results", "").lock():
            pass
        if job.name.startswith("cmm"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign(output, ["5"], 1, on_job=stop, report=True)
    rows = rows_of((output / "tables.md").read_text(), "## Table 5")
    assert [row[-1] for row in rows] == ["1", "1", "0", "0"]
    assert campaign(output, ["5"], 1).names == ["cmm-8x32-seed0", "stm-8x32-seed0"]


@pytest.mark.parametrize(
    "error, line",
    [
        (KeyboardInterrupt(), "\nStopped. The same command goes on with the runs that are missing."),
        (RuntimeError("stm: no memory"), "reproduce.py: stm: no memory"),
    ],
)
def test_what_ends_the_command_is_told_in_a_line(error, line, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(reproduce, "reproduce", fail)
    with pytest.raises(SystemExit) as exit:
        reproduce.main(["reproduce.py", f"--output={tmp_path}"])
    assert exit.value.code == line


def test_an_unfinished_campaign_has_a_report_of_what_is_there(tmp_path):
    results = Results(tmp_path / "results", "")
    os.makedirs(tmp_path / "results")
    reproduce_report.write(TINY, results, ["5", "9", "clips"], tmp_path)
    assert "| TSN | 19.7 | – |" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "table9.png").exists() and (tmp_path / "clips.png").exists()


def test_a_folder_of_other_settings_or_of_something_else_is_refused(reported, tmp_path):
    before = contents(reported)
    with pytest.raises(ValueError, match=r"\(epochs 1 there, 2 here\)"):
        campaign(reported, settings=dataclasses.replace(TINY, epochs=2))
    assert contents(reported) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        campaign(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(
    "flags, name, value",
    [
        (["--tables=5,10"], "tables", ["5", "10"]),
        (["--epochs=4"], "epochs", 4),
        (["--quick", "--batch_size=17"], "batch_size", 17),
        (["--report_only"], "output", None),
    ],
)
def test_what_cannot_be_trained_or_reported_is_refused_before_anything_is_written(
    flags, name, value, tmp_path
):
    output = tmp_path / "reproduce"
    with pytest.raises(SystemExit) as error:
        command(*flags, f"--output={output}")
    line = error.value.code
    assert line.startswith(f"reproduce.py: `{name}` ") and "\n" not in line
    assert line.endswith(f"Received: {name}={str(output) if value is None else value!r}")
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


def test_ctrl_c_stops_all_processes():
    # A terminal sends it to all: those of the pool leave it to the first one.
    jobs = [
        reproduce_pool.Job("ctrl-c", signal.raise_signal, (signal.SIGINT,)),
        *(reproduce_pool.Job(name, time.sleep, (600,)) for name in ("sleeps", "sleeps, too")),
    ]
    ended, first = [], []

    def on_end(job, result):
        ended.append(job.name)

    def show(done):
        # The second job sleeps, and so does the third once the first has ended.
        if ended:
            first.append(multiprocessing.active_children())
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            reproduce_pool.run(jobs, 2, "none", on_end, show=show)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["ctrl-c"] and len(first[0]) == 2
    assert not multiprocessing.active_children()


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
