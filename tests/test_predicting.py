"""Predictions for files and folders: videos found, errors of unreadable files, tables and timelines."""

import csv
import functools
import io
import json
import os
import pathlib
import re
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from keras_stm import predicting, rendering
from keras_stm.data.video import VideoError, probe
from keras_stm.video_classifier import VideoClassifier
from tests import brightness
from tests.brightness import BRIGHT, DARK, NAMES
from tests.data.videos import damage, decode_all, write_audio, write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return brightness.write_run(tmp_path_factory.mktemp("saved_models") / "run")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return brightness.write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    return brightness.write_ramp(tmp_path_factory.mktemp("long") / "ramp.mp4")


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Caches classifiers, because most tests use the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicting, "VideoClassifier", functools.cache(VideoClassifier))
        yield


def predict(paths, run, **options):
    return predicting.predict(predicting.find_clips(list(map(str, paths))), run, **options)


def best(answers):
    return {pathlib.Path(a["file"]).name: a["predictions"][0]["label"] for a in answers if "error" not in a}


def test_files_and_folders_are_answered_in_order_and_once(run, videos):
    told = []
    answers = predict([videos / "sub" / "a.avi", videos], run, on_answer=told.append)
    assert list(best(answers).items()) == [("a.avi", "dark"), ("b.mp4", "bright"), ("c.mp4", "middle")]
    assert told == answers


def test_a_folder_of_frames_is_one_clip_unless_it_holds_videos(run, videos, tmp_path):
    image = tf.io.encode_jpeg(np.full((40, 40, 3), 230, "uint8")).numpy()
    for folder in ("frames/clip", "thumbnails"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            (tmp_path / folder / f"{i}.jpg").write_bytes(image)
    shutil.copy(videos / "sub" / "a.avi", tmp_path / "thumbnails")
    assert best(predict([tmp_path], run)) == {"clip": "bright", "a.avi": "dark"}
    assert best(predict([tmp_path / "frames" / "clip"], run)) == {"clip": "bright"}


def test_links_that_lead_round_in_a_circle_are_followed_once(videos, tmp_path):
    (tmp_path / "link").symlink_to(videos)
    (tmp_path / "circle").symlink_to(tmp_path)
    clips, problems = predicting.find_clips([str(tmp_path)])
    assert [os.path.basename(clip) for clip in clips] == ["b.mp4", "a.avi", "c.mp4"] and not problems


def test_broken_files_are_reported_one_by_one_and_the_others_answered(run, videos, tmp_path):
    folder = tmp_path / "some broken"
    shutil.copytree(videos / "sub", folder)
    (folder / "cut.mp4").write_bytes((videos / "b.mp4").read_bytes()[:-200])
    (folder / "notes.mp4").write_bytes(b"no video")
    write_audio(folder / "sound.mp4")
    files = {"json_file": str(tmp_path / "answers.json"), "csv_file": str(tmp_path / "answers.csv")}
    answers = predict([folder, "nowhere.mp4", folder / "a.avi"], run, **files)
    assert best(answers) == {"a.avi": "dark", "c.mp4": "middle"}
    reasons = {
        "cut.mp4": "truncated",
        "notes.mp4": "not a video",
        "sound.mp4": "no video stream",
        "nowhere.mp4": "no such file",
    }
    errors = {os.path.basename(each["file"]): each["error"] for each in answers if "error" in each}
    assert set(errors) == set(reasons)
    for name, reason in reasons.items():
        assert reason in errors[name]
    assert json.loads((tmp_path / "answers.json").read_text())["videos"] == answers
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), r"holds no .*\.avi, .* file and no folder of .*\.jpg, .* frames"),
        (lambda path: path.write_bytes(b""), "not a video"),
    ],
)
def test_where_nothing_is_answered_no_file_is_written(make, message, run, tmp_path):
    path = tmp_path / "what"
    make(path)
    files = {f"{name}_file": str(tmp_path / f"new.{name}") for name in ("json", "csv")}
    (answer,) = predict([path], run, **files)
    assert re.search(message, answer["error"]) and not predicting.is_answered(answer)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"what"}


def test_a_table_has_a_row_for_each_video(run, videos, tmp_path):
    output = tmp_path / "scores.csv"
    answers = predict([videos], run, top_k=2, csv_file=str(output))
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert list(rows[0]) == ["file", "label_1", "score_1", "label_2", "score_2"]
    for row, answer in zip(rows, answers, strict=True):
        assert row["file"] == answer["file"]
        for i, prediction in enumerate(answer["predictions"], 1):
            assert row[f"label_{i}"] == prediction["label"]
            assert float(row[f"score_{i}"]) == prediction["score"]
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_json_says_what_was_asked_of_which_model(run, videos, tmp_path):
    output = tmp_path / "scores.json"
    answers = predict([videos / "b.mp4"], run, protocol="paper", precision="bfloat16", json_file=str(output))
    assert json.loads(output.read_text()) == {
        "model": run,
        "protocol": "paper",
        "num_frames": 4,
        "image_size": 32,
        "sampling": "segments",
        "precision": "bfloat16",
        "videos": answers,
    }


def test_a_timeline_has_the_windows_and_the_spans_where_they_agree(run, ramp, tmp_path):
    output = tmp_path / "windows.csv"
    (answer,) = predict([ramp], run, window=1.0, stride=0.5, csv_file=str(output))
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [
        (start / 2, start / 2 + 1) for start in range(11)
    ]
    brightness = np.mean(decode_all(ramp), axis=(1, 2, 3))
    for row in rows:
        mean = brightness[int(float(row["start"]) * 10) :][:10].mean()
        assert row["label_1"] == NAMES[int(mean > DARK) + int(mean > BRIGHT)]
    assert {row["label_1"] for row in rows} == set(NAMES)
    # Each span starts where the previous one ends, midway between the centres of two windows.
    spans = answer["spans"]
    assert [span["label"] for span in spans] == list(NAMES)
    assert spans[0]["start"] == 0 and spans[-1]["end"] == pytest.approx(6)
    labels = [row["label_1"] for row in rows]
    for span, name in zip(spans, NAMES, strict=True):
        first, count = labels.index(name), labels.count(name)
        if first:
            assert span["start"] == pytest.approx(first / 2 + 0.25)
        scores = [float(row["score_1"]) for row in rows[first : first + count]]
        assert span["score"] == pytest.approx(np.mean(scores))


def test_windows_that_do_not_overlap_own_what_they_span():
    windows = [
        {"start": start, "end": start + 2, "predictions": [{"label": label, "score": score}]}
        for start, label, score in ((0, "a", 0.5), (2, "a", 0.7), (4, "b", 0.9), (5, "a", 1.0))
    ]
    assert [moment[:2] for moment in predicting.moments(windows)] == [(0, 2), (2, 4), (4, 5.5), (5.5, 7)]
    spans = predicting.merge(windows)
    assert [(s["start"], s["end"], s["label"]) for s in spans] == [(0, 4, "a"), (4, 5.5, "b"), (5.5, 7, "a")]
    assert [s["score"] for s in spans] == pytest.approx([0.6, 0.9, 1.0])


def test_a_timeline_goes_as_far_as_the_damage_and_says_so(run, tmp_path):
    path = write_video(tmp_path / "damaged.mp4", 60, brightness=200, options={"g": "1", "bf": "0"})
    damage(path, 45)
    output = tmp_path / "windows.json"
    (answer,) = predict([path], run, batch_size=1, window=1.0, stride=1.0, json_file=str(output))
    assert answer["spans"][-1]["end"] == pytest.approx(4, abs=0.01) and answer["error"]
    assert json.loads(output.read_text())["videos"] == [answer]


def test_what_is_drawn_is_the_answer_of_the_moment(run, ramp, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "render", lambda source, target, moments, progress: drawn.append(moments))
    monkeypatch.setattr(predicting, "replacing", mock.MagicMock())
    drawn = []
    (answer,) = predict([ramp], run, window=1.0, stride=1.0)
    predicting.render(answer, str(tmp_path / "drawn.mp4"))
    (windows,) = drawn
    assert [end for end, _ in windows] == [1, 2, 3, 4, 5, float("inf")]
    assert [predictions for _, predictions in windows] == [each["predictions"] for each in answer["windows"]]
    (answer,) = predict([ramp], run)
    predicting.render(answer, str(tmp_path / "drawn.mp4"))
    assert drawn[1] == [(float("inf"), answer["predictions"])]


def test_a_whole_answer_is_drawn_into_a_file(run, ramp, tmp_path):
    target = str(tmp_path / "drawn.mp4")
    (answer,) = predict([ramp], run)
    predicting.render(answer, target)
    assert probe(target).num_frames == 60 and os.listdir(tmp_path) == ["drawn.mp4"]


def test_damage_that_only_drawing_meets_leaves_no_video(run, tmp_path):
    path = write_video(tmp_path / "damaged.mp4", 60, options={"g": "1", "bf": "0"})
    damage(path, 59)
    (answer,) = predict([path], run)
    with pytest.raises(VideoError):
        predicting.render(answer, str(tmp_path / "drawn.mp4"))
    assert os.listdir(tmp_path) == ["damaged.mp4"]


def test_an_error_while_writing_keeps_what_was_there(run, videos, tmp_path, monkeypatch):
    (tmp_path / "scores.json").write_text("old")
    monkeypatch.setattr(predicting.json, "dump", mock.Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        predict([videos / "b.mp4"], run, json_file=str(tmp_path / "scores.json"))
    assert (tmp_path / "scores.json").read_text() == "old" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("window", [None, 1.0])
def test_a_bar_shows_the_time_left_where_a_person_watches(window, run, videos, ramp, monkeypatch):
    terminal = mock.Mock(wraps=io.StringIO(), encoding="utf-8", **{"isatty.return_value": True})
    monkeypatch.setattr(sys, "stdout", terminal)
    predict([ramp if window else videos], run, window=window, on_answer=lambda answer: print(answer["file"]))
    shown = "".join(call.args[0] for call in terminal.write.call_args_list)
    assert ("1/6" if window else "1/3") in shown
    # The bar is erased before each answer is printed, and no bar remains at the end.
    *_, last_answer = shown.split("\r\033[K")
    assert last_answer.startswith(ramp if window else str(videos)) and "\r" not in last_answer


def test_no_bar_is_written_into_files(run, videos, capsys):
    predict([videos], run)
    assert capsys.readouterr().out == ""


def test_errors_of_videos_lose_the_path_that_is_beside_them(run, monkeypatch):
    error = VideoError("a.mp4", "too large", "900 frames of 9x9 take more than 7 bytes")
    monkeypatch.setattr(VideoClassifier, "iterate", lambda self, clips: [error])
    assert predict(["a.mp4"], run) == [
        {"file": "a.mp4", "error": "900 frames of 9x9 take more than 7 bytes"},
    ]
