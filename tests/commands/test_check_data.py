"""`keras-stm check-data`: what it prints and writes, and its exit status."""

import json
import os
from unittest import mock

import pytest

from keras_stm.commands import check_data
from keras_stm.data.checking import FINDINGS
from tests.commands.process import keras_stm
from tests.data.messy import good, write_messy


@pytest.fixture(scope="module")
def messy(made_once):
    return made_once("my clips", write_messy)


@pytest.fixture(scope="module")
def command(messy, tmp_path_factory):
    """The finished process that checked `messy`, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("work")
    return keras_stm("check-data", f"--data_dir={messy}", cwd=folder), folder


@pytest.fixture(scope="module")
def output(command):
    return command[1] / "saved_models" / "check_data-my clips"


@pytest.fixture(scope="module")
def report(command):
    """The printed report about `messy`."""
    return command[0].stdout


def test_nothing_else_is_written_and_the_histograms_are_a_picture(report, output):
    assert sorted(os.listdir(output)) == ["check_data.json", "exclude.txt", "histograms.png"]
    content = (output / "histograms.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_report_is_a_screenful_that_names_all_of_it(report, messy):
    assert len(report.splitlines()) < 50
    for text in (
        "16 clips, 12 of them can be read",
        "1 (push) to 6 (clap) per class, median 2.5, ratio 6",
        "none of push",
        "LEAKAGE (1)",
        "train/pull/h.mp4 (pull) = train/pull/leaks.mp4 (pull) = val/pull/leaked.mp4 (pull)",
        "copies (1)",
        "truncated (1)",
        "too short (1): fewer than 8 frames",
        f"keras-stm fit '--data_dir={messy}' '--exclude=saved_models/check_data-my clips/exclude.txt'",
    ):
        assert text in report


def test_the_command_shows_how_far_it_is_and_tells_by_its_status_that_there_is_something_to_exclude(command):
    process, _ = command
    assert process.returncode == 2, process.stderr
    assert "Reading: 20 of 20" in process.stdout


def test_a_data_set_whose_clips_can_all_be_read_ends_with_success(tmp_path):
    for name in ("a/1.mp4", "b/2.mp4"):
        good(tmp_path / "clips" / name)
    output = tmp_path / "output"
    arguments = [f"--data_dir={tmp_path / 'clips'}", f"--output={output}", "--split=train", "--decode"]
    assert check_data.main(["check_data.py", *arguments, "--workers=1", "--num_frames=13"]) == 0
    findings = json.loads((output / FINDINGS).read_text())
    assert list(findings["splits"]) == ["train"]
    assert (findings["num_frames"], findings["decoded"]) == (13, "all frames")


@pytest.mark.parametrize("error", [ValueError("no such split"), PermissionError("no space")])
def test_what_is_in_the_way_is_told_in_a_line(monkeypatch, error):
    monkeypatch.setattr(check_data, "check", mock.Mock(side_effect=error))
    with pytest.raises(SystemExit, match=f"^check_data.py: {error}$"):
        check_data.main(["check_data.py", "--data_dir=clips"])


@pytest.mark.parametrize(
    "dataset, short_side, seconds, expected",
    [
        ("folder", 340, 5, False),
        ("folder", 341, 5, True),
        ("folder", 340, 5.1, True),
        ("jester", 100, None, False),
        ("packed", 256, 10, False),
    ],
)
def test_packing_is_advised_for_large_or_long_clips(capsys, dataset, short_side, seconds, expected):
    facts = {"short side": {"median": short_side}, "seconds": {"median": seconds} if seconds else {}}
    findings = {"dataset": dataset, "facts": facts, "unreadable": {}, "suggested_group_by": None}
    check_data.print_next(findings, "output")
    assert ("keras-stm pack" in capsys.readouterr().out) == expected


def test_a_suggested_grouping_is_shown_as_a_flag(capsys):
    facts = {"short side": {}, "seconds": {}}
    found = {"dataset": "folder", "facts": facts, "unreadable": {}, "suggested_group_by": r"(p\d+)_c\d+"}
    check_data.print_next(found, "output")
    assert capsys.readouterr().out.endswith(r"Keep them in one split: '--group_by=(p\d+)_c\d+'" + "\n")


@pytest.mark.parametrize(
    "split, ratio, expected", [("train", 9.9, 0), ("train", 10, 1), ("validation", 20, 0)]
)
def test_weights_are_advised_for_classes_of_very_different_size(capsys, split, ratio, expected):
    balance = {"smallest": ["a", 1], "largest": ["b", 10], "median": 5, "ratio": ratio, "empty": []}
    found = {"clips": 11, "readable": 11, "missing": [], "balance": balance}
    findings = {"data_dir": "clips", "classes": 2, "splits": {split: found}, "copies": [], "unreadable": {}}
    findings["unused"] = []
    check_data.print_report({**findings, "num_frames": 8, "too_short": [], "facts": {}})
    advice = "train with --sampling_weights=balanced or --class_weights=balanced"
    assert capsys.readouterr().out.count(advice) == expected


@pytest.mark.parametrize(
    "dataset, fold, flags",
    [
        ("folder", 1, ""),
        ("jester", 1, "--dataset=jester "),
        ("ucf101", 2, "--dataset=ucf101 "),
    ],
)
def test_the_command_that_trains_without_what_cannot_be_read_is_shown(capsys, dataset, fold, flags):
    facts = {"short side": {}, "seconds": {}}
    found = {"data_dir": "clips", "dataset": dataset, "fold": fold, "facts": facts, "group_by": None}
    found["suggested_group_by"] = None
    check_data.print_next({**found, "unreadable": {"missing": ["a.mp4"]}}, "output")
    of_fold = "" if fold == 1 else f" --fold={fold}"
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"  keras-stm fit {flags}--data_dir=clips --exclude=output/exclude.txt{of_fold}"
    )
