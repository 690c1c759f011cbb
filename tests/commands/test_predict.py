"""`keras-stm predict`: what it prints and writes, its exit status, and what it rejects."""

import functools
import itertools
import json
import os
import re
import shutil
import sys
from unittest import mock

import numpy as np
import pytest

from keras_stm import inference, predicting, streaming
from keras_stm.commands import predict
from keras_stm.data import load_clip, open_dataset
from keras_stm.data.video import probe
from keras_stm.video_classifier import VideoClassifier
from tests import brightness
from tests.commands.process import keras_stm
from tests.data.videos import damage, write_audio, write_video
from tests.reference.backend import compute, numpy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return brightness.write_run(tmp_path_factory.mktemp("saved_models") / "run")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return brightness.write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Loads and compiles once: most tests use the same model."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(VideoClassifier)
        for module in (predicting, streaming):
            patch.setattr(module, "VideoClassifier", cached)
        yield


def command(*arguments):
    return predict.main(["keras-stm predict", *map(str, arguments)])


def test_the_best_classes_are_printed_with_bars(run, videos, tmp_path, capsys):
    output = tmp_path / "scores.json"
    assert command(videos / "b.mp4", f"--model={run}", "--top_k=2", f"--json={output}") == 0
    (answer,) = json.loads(output.read_text())["videos"]
    first, second = answer["predictions"]
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == "" and lines[0] == str(videos / "b.mp4")
    for line, prediction in zip(lines[1:], (first, second), strict=True):
        label, score, *bar = line.split()
        assert label == prediction["label"]
        assert score == f"{prediction['score']:.1%}"
        assert sum(map(len, bar)) == round(30 * prediction["score"])
    assert first["score"] > 0.9 and "█" * 27 in lines[1]


def test_a_timeline_is_printed_with_its_times(run, tmp_path, capsys):
    ramp, output = brightness.write_ramp(tmp_path / "ramp.mp4"), tmp_path / "answers.json"
    assert command(ramp, f"--model={run}", "--window=1", f"--json={output}") == 0
    lines = capsys.readouterr().out.splitlines()
    end = json.loads(output.read_text())["videos"][0]["spans"][0]["end"]
    assert lines[0] == ramp and len(lines) == 4
    assert lines[1].startswith(f"  00:00:00.0 - 00:00:0{end:.1f}  dark  ")


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "00:00:00.0"), (59.96, "00:01:00.0"), (3599.94, "00:59:59.9"), (36061.5, "10:01:01.5")],
)
def test_times_are_hours_minutes_and_seconds(seconds, text):
    assert predict.clock(seconds) == text


def test_what_cannot_be_read_is_reported_in_a_line_before_and_among_the_answers(
    run, videos, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.mp4").write_bytes(b"no video")
    assert command(videos / "b.mp4", tmp_path / "notes.mp4", tmp_path / "empty", f"--model={run}") == 2
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert first.startswith(f"keras-stm predict: {tmp_path / 'empty'}: holds no ")
    assert second.startswith(f"keras-stm predict: {tmp_path / 'notes.mp4'}: not a video")
    assert len(captured.out.splitlines()) == 4


def test_where_nothing_is_answered_there_is_one_line(run, tmp_path, capsys):
    assert command(tmp_path / "none.mp4", f"--model={run}") == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"keras-stm predict: {tmp_path / 'none.mp4'}: ")
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("window", [[], ["--window=1", "--batch_size=1"]])
def test_a_damaged_video_is_not_drawn_and_its_damage_told_once(window, run, tmp_path, capsys):
    """Without windows, only drawing reads the damaged part."""
    path = write_video(tmp_path / "damaged.mp4", 60, options={"g": "1", "bf": "0"})
    damage(path, 59)
    assert command(path, f"--model={run}", f"--render={tmp_path / 'drawn.mp4'}", *window) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"keras-stm predict: {path}: ") and captured.err.count("\n") == 1
    assert "drawn" not in captured.out
    assert os.listdir(tmp_path) == ["damaged.mp4"]


def test_the_video_is_drawn_beside_what_is_no_video(run, videos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    target = tmp_path / "drawn.mp4"
    assert command(videos / "b.mp4", tmp_path / "empty", f"--model={run}", f"--render={target}") == 2
    assert capsys.readouterr().out.endswith(f"{target}: the video with these classes drawn on it\n")
    assert probe(str(target)).num_frames == 8


@pytest.mark.parametrize(
    "outputs, message",
    [
        ({"json": "there.json"}, "--json=there.json exists"),
        ({"csv": "nowhere/new.csv"}, "--csv=nowhere/new.csv: .*nowhere"),
        ({"csv": "folder"}, "--csv=folder "),
        ({"csv": "new", "json": "./new"}, "--json, --csv "),
        ({"render": "new.webm"}, "--render=new.webm .*mp4"),
        ({"render": "new.mp4"}, "--render "),
        ({"render": "a.mp4"}, "--render=a.mp4 is one of the videos"),
    ],
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_files_that_must_not_be_written_are_named_before_any_work(
    overwrite, outputs, message, videos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("years of work")
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        shutil.copy(videos / "b.mp4", f"{name}.mp4")
    monkeypatch.setattr(predicting, "predict", mock.Mock(side_effect=ValueError("work")))
    if overwrite and outputs == {"json": "there.json"}:
        message = "work"
    flags = [f"--{name}={path}" for name, path in outputs.items()]
    with pytest.raises(SystemExit, match=f"^keras-stm predict: {message}"):
        command("a.mp4", "b.mp4", *flags, *overwrite)
    assert (tmp_path / "there.json").read_text() == "years of work"


def test_overwrite_replaces_the_file(run, videos, tmp_path):
    output = tmp_path / "scores.json"
    output.write_text("old")
    assert command(videos / "b.mp4", f"--model={run}", f"--json={output}", "--overwrite") == 0
    assert json.loads(output.read_text())["videos"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no video"),
        (["a.mp4", "--stride=1"], "--stride .*--window"),
        (["a.mp4", "--model=nowhere"], ".*nowhere"),
        (["a.mp4"], ".*small-stm_small'$"),
    ],
)
def test_arguments_that_do_not_go_together_are_named_in_a_line(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^keras-stm predict: {message}") as stop:
        command(*arguments)
    assert "\n" not in stop.value.code and capsys.readouterr().out == ""


GOOD, BAD = {"file": "a", "predictions": [{"label": "x", "score": 1.0}]}, {"file": "b", "error": "broken"}


@pytest.mark.parametrize(
    "outcome, status",
    [
        ([GOOD], 0),
        ([GOOD, BAD], 2),
        ([BAD], 1),
        ([{**BAD, "windows": []}], 2),
        (ValueError("no such model"), "no such model"),
        (ImportError("No module named 'PIL'"), "No module named 'PIL'"),
        (OSError("disk full"), "disk full"),
    ],
)
def test_the_status_tells_how_many_were_answered(outcome, status, monkeypatch):
    monkeypatch.setattr(predicting, "predict", mock.Mock(side_effect=[outcome]))
    if isinstance(outcome, list):
        assert command("a") == status
    else:
        with pytest.raises(SystemExit, match=f"^keras-stm predict: {status}$"):
            command("a")


@pytest.mark.every_backend
def test_the_command_writes_the_scores_of_a_runs_model(trained_run, clips, tmp_path):
    paths = [path for path, _ in open_dataset("folder", clips, split="validation").records][::3]
    output = tmp_path / "scores.json"
    assert command(*paths, f"--model={trained_run}", "--top_k=8", f"--json={output}") == 0
    answers = json.loads(output.read_text())["videos"]
    assert [answer["file"] for answer in answers] == paths
    trained = inference.load(trained_run)
    prepared = np.concatenate([load_clip(path, trained.num_frames, trained.image_size) for path in paths])
    for answer, expected in zip(answers, numpy(compute(trained.model, prepared)), strict=True):
        scores = {each["label"]: each["score"] for each in answer["predictions"]}
        assert [scores[name] for name in trained.class_names] == pytest.approx(expected, abs=1e-5)
    assert len({answer["predictions"][0]["label"] for answer in answers}) > 1


def test_the_command_answers_by_the_main_jobs_model_and_ends_with_its_status(run, videos, tmp_path):
    """In a separate process."""
    shutil.copytree(run, tmp_path / "saved_models" / "small-stm_small")
    shutil.copytree(videos / "sub", tmp_path / "some broken")
    (tmp_path / "some broken" / "notes.mp4").write_bytes(b"no video")
    write_audio(tmp_path / "some broken" / "sound.mp4")
    arguments = ("some broken", "--json=scores.json", "--top_k=2", "--batch_size=2")
    # Like a terminal that supports only ASCII.
    result = keras_stm("predict", *arguments, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert result.returncode == 2, result.stderr
    assert len(result.stdout.splitlines()) == 2 * 3
    lines = result.stderr.splitlines()
    assert [re.match(r"keras-stm predict: .*\b(\w+)\.mp4: ", line)[1] for line in lines] == ["notes", "sound"]
    answers = json.loads((tmp_path / "scores.json").read_text())["videos"]
    best = {answer["file"]: answer["predictions"][0]["label"] for answer in answers if "error" not in answer}
    assert best == {"some broken/a.avi": "dark", "some broken/deeper/c.mp4": "middle"}


def test_a_stream_prints_a_line_for_each_change_and_a_summary(run, tmp_path, capsys):
    ramp = brightness.write_ramp(tmp_path / "ramp.mp4")
    output = tmp_path / "answers.jsonl"
    flags = ["--rate=10", "--threshold=0.9", f"--json={output}"]
    assert command(f"--stream={ramp}", f"--model={run}", *flags) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == f"{ramp}: 10 frames a second; Ctrl-C ends"
    assert re.fullmatch(r"60 frames in \d+\.\d s, [\d.]+ a second; 0 dropped, 0 reconnections", last)
    shown = [re.fullmatch(r"(00:00:0\d\.\d)  (nothing recognised|(\w+)  [\d.]+%)", line) for line in lines]
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    changes = [answers[0]] + [new for old, new in itertools.pairwise(answers) if new["label"] != old["label"]]
    assert len(changes) >= 5
    assert [(match[1], match[3]) for match in shown] == [
        (predict.clock(change["time"]), change["label"]) for change in changes
    ]


def test_a_stream_is_one_line_in_a_terminal(run, videos, monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda file: True)
    monkeypatch.setenv("COLUMNS", "70")
    assert command(f"--stream={videos / 'b.mp4'}", f"--model={run}", "--rate=10") == 0
    first, middle, last = capsys.readouterr().out.split("\n")[:3]
    shown = middle.split("\r\033[K")[1:-2]
    assert len(shown) == 8
    line = r"00:00:00\.\d  [\d.]+ frames/s  delay [\d.]+ s  0 dropped  bright  \d+\.\d%"
    assert all(re.fullmatch(line, text) for text in shown)
    assert middle.split("\r\033[K")[-2] == "" and "8 frames in" in middle.split("\r\033[K")[-1]


def test_json_on_the_standard_output_is_alone_there(run, videos, capsys):
    assert command(f"--stream={videos / 'b.mp4'}", f"--model={run}", "--rate=10", "--json=-") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == ["bright"] * 8


def test_a_stream_that_breaks_off_is_an_error_after_its_answers(run, tmp_path, capsys):
    path = write_video(tmp_path / "damaged.mp4", 30, options={"g": "1", "bf": "0"})
    damage(path, 20)
    target = tmp_path / "drawn.mp4"
    assert command(f"--stream={path}", f"--model={run}", "--rate=10", f"--render={target}") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"keras-stm predict: {path}: ") and captured.err.count("\n") == 1
    assert captured.out.endswith(f"{target}: the frames of the stream with these classes drawn on them\n")
    assert probe(str(target)).num_frames > 10


def test_every_flag_of_a_stream_reaches_what_predicts_it(monkeypatch, capsys):
    stream = mock.Mock(return_value=streaming.End(mock.Mock(taken=0, dropped=0, reconnections=0), None))
    monkeypatch.setattr(streaming, "stream", stream)
    flags = ["--model=m", "--top_k=2", "--rate=4", "--smooth=0.5", "--realtime", "--reconnect"]
    flags.append("--precision=bfloat16")
    assert command("--stream=rtsp://camera", *flags, "--threshold=0.7", "--json=-") == 0
    expected = {"top_k": 2, "rate": 4.0, "smooth": 0.5, "realtime": True, "reconnect": True, "threshold": 0.7}
    expected |= {
        "json_file": "-",
        "video_file": None,
        "on_start": None,
        "on_answer": None,
        "precision": "bfloat16",
    }
    stream.assert_called_once_with("rtsp://camera", "m", **expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.mp4", "--realtime"], "--realtime needs --stream"),
        (["--stream=a.mp4", "b.mp4"], "--stream .*'b.mp4'"),
        (["--stream=a.mp4", "--window=2"], "--window .*--stream"),
        (["--stream=a.mp4", "--protocol=paper"], "--protocol .*--stream"),
        (["--stream=a.mp4", "--render=drawn.gif"], "--render=drawn.gif "),
        (["--stream=a.mp4", "--json=nowhere/a.jsonl"], "--json=nowhere/a.jsonl: "),
        (["--stream=nowhere.mp4", "--model=RUN"], "nowhere.mp4: no such file"),
        (["--stream=b.mp4", "--model=RUN", "--rate=0"], "`rate` must be a positive number"),
        (["--stream=b.mp4", "--model=RUN", "--reconnect"], "`reconnect` must be False"),
    ],
)
def test_arguments_of_a_stream_that_do_not_go_together_are_named_in_a_line(
    arguments, message, run, videos, monkeypatch, capsys
):
    monkeypatch.chdir(videos)
    with pytest.raises(SystemExit, match=f"^keras-stm predict: {message}") as stop:
        command(*(each.replace("RUN", run) for each in arguments))
    assert "\n" not in stop.value.code and capsys.readouterr().out == ""
