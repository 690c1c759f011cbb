"""The paper's ablations as one command: its flags, its campaign and its report."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import types

import keras
import matplotlib.figure
import numpy as np
import pytest

import reproduce
from reproduction import campaign as campaigns
from reproduction import pool
from reproduction import report as reports
from reproduction.runs import STILLS, Results, Run, Settings
from reproduction.tables import CLIPS_TITLE
from tests.training.reproduction.processes import in_process

TINY = dataclasses.replace(Settings(), **reproduce.TINY)


class MadeUp:
    """Replaces `pool.run`: writes made-up results at once, and records the jobs.

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
    """Writes the results of a job without training or measuring, and returns its record."""
    if job.name == STILLS:
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
        # All 8 and 7 classes, with few clips.
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
    """Makes the command use made-up results and yields `MadeUp`. By default there is no report."""
    made_up = MadeUp(on_job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "run", made_up)
        if not report:
            patch.setattr(reports, "write", lambda *args: None)
        elif not pictures:
            # Pictures take longest.
            patch.setattr(
                matplotlib.figure.Figure, "savefig", lambda self, path, **_: open(path, "w").close()
            )
        yield made_up


def campaign(output, tables=("5", "clips"), seeds=2, settings=TINY, **options):
    """Runs the command's function with made-up results, and returns the `MadeUp` that recorded its jobs."""
    with made_up_results(**options) as made_up:
        campaigns.reproduce(settings, str(output), list(tables), seeds, "")
    return made_up


def command(*flags):
    """Runs the command in this process with made-up results, and returns the `MadeUp` with its jobs."""
    with made_up_results() as made_up:
        reproduce.main(["training/reproduce.py", *flags])
    return made_up


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a finished campaign with made-up results of Tables 5, 9 and "clips", with two seeds."""
    output = tmp_path_factory.mktemp("campaign") / "reproduce"
    campaign(output, ["5", "9", "clips"], report=True, pictures=True)
    return output


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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


def test_the_command_starts_and_reports_without_tensorflow_and_pyav(tmp_path):
    # The process uses JAX, which starts fastest, so the folder must be claimed for JAX.
    output = tmp_path / "reproduce"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "jax")
        campaigns.claim(str(output), TINY)
    process = in_process("jax", tmp_path, "--quick", "--report_only", "--tables=5")
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout == f"Report: {output / 'tables.md'}\n"
    assert (output / "table5.png").exists()


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
    clips = rows_of(text, f"## {CLIPS_TITLE}")
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
    assert "are finished" in capsys.readouterr().out


def test_a_run_that_was_stopped_is_trained_again_and_only_that(tmp_path):
    output = tmp_path / "reproduce"
    campaign(output, ["clips"], 1)
    # Scores and weights are written before the record.
    for run in (Run("stm", 0, 4, 32, tuned=True), Run("stm", 0, 8, 32)):
        before = contents(output / "results")
        (output / "results" / f"{run.name}.json").unlink()
        assert campaign(output, ["clips"], 1).names == [run.name]
        assert set(contents(output / "results")) == set(before)


def test_stopped_it_reports_what_is_there_and_the_same_command_goes_on(tmp_path):
    output = tmp_path / "reproduce"

    def stop(job):
        # Meanwhile the folder rejects another command.
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
        (
            KeyboardInterrupt(),
            "\nreproduce.py: stopped. Run the same command again to train the missing runs.",
        ),
        (RuntimeError("stm: no memory"), "reproduce.py: stm: no memory"),
    ],
)
def test_what_ends_the_command_is_told_in_a_line(error, line, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(campaigns, "reproduce", fail)
    with pytest.raises(SystemExit) as exit:
        reproduce.main(["reproduce.py", f"--output={tmp_path}"])
    assert exit.value.code == line


def test_an_unfinished_campaign_has_a_report_of_what_is_there(tmp_path):
    results = Results(tmp_path / "results", "")
    os.makedirs(tmp_path / "results")
    reports.write(TINY, results, ["5", "9", "clips"], tmp_path)
    assert "| TSN | 19.7 | – |" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "table9.png").exists() and (tmp_path / "clips.png").exists()


def test_a_folder_of_other_settings_or_of_something_else_is_refused(reported, tmp_path):
    before = contents(reported)
    with pytest.raises(ValueError, match=r"\(epochs 1 there, 2 here\)"):
        campaign(reported, settings=dataclasses.replace(TINY, epochs=2))
    assert contents(reported) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no results of this command"):
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
