"""predict.py: what it prints, writes and draws, and what it says of files that it cannot read."""

import csv
import fractions
import functools
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
from unittest import mock

import av
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import ImageFont

import fit
import predict
import render
from keras_stm import inference, model_file
from keras_stm.data import load_clip, open_dataset
from keras_stm.data.video import VideoError, iterate_frames, probe
from keras_stm.video_classifier import VideoClassifier
from tests.data.videos import copy_video, damage, decode_all, write_audio, write_video
from tests.reference.backend import compute, numpy

SCRIPT = predict.__file__
NAMES = ("dark", "middle", "bright")
# Of pixel values, where the answer changes.
DARK, BRIGHT = 86, 143
CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="segments")


def brightness_model():
    """A model whose answers are known: how bright a clip is."""
    inputs = keras.Input((None, None, None, 3))
    mean = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(inputs)
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, dense(mean))
    # With normalised pixels the mean of the channels is about 0 at a value of 115, and 0.5 at 143.
    dense.set_weights([np.tile([-20.0, 0.0, 20.0], (3, 1)) / 3, np.array([0.0, 10.0, 0.0])])
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as a run leaves it."""
    path = tmp_path_factory.mktemp("saved_models") / "run"
    path.mkdir()
    fit.save_model(brightness_model(), str(path / "model.keras"), NAMES, CLIP)
    return str(path)


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Most tests ask the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "VideoClassifier", functools.cache(VideoClassifier))
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One video of each class, in folders, beside what is none."""
    root = tmp_path_factory.mktemp("data") / "videos"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / ".hidden").mkdir()
    write_video(root / "b.mp4", 8, brightness=200)
    write_video(root / "sub" / "a.avi", 8, "mpeg4", brightness=20)
    write_video(root / "sub" / "deeper" / "c.mp4", 8, brightness=95)
    write_video(root / ".hidden" / "d.mp4", 8)
    write_video(root / "sub" / "._b.mp4", 8)
    (root / "sub" / "notes.txt").write_text("no video")
    return root


def best(answers):
    return {pathlib.Path(a["file"]).name: a["predictions"][0]["label"] for a in answers if "error" not in a}


def test_files_and_folders_are_answered_in_order_and_once(run, videos, capsys):
    answers = predict.predict([str(videos / "sub" / "a.avi"), str(videos)], run)
    assert list(best(answers).items()) == [("a.avi", "dark"), ("b.mp4", "bright"), ("c.mp4", "middle")]
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("mp4\n") == 2
    lines = captured.out.splitlines()
    assert lines[0].endswith("a.avi") and len(lines) == 12


def test_the_best_classes_are_printed_with_bars(run, videos, capsys):
    (answer,) = predict.predict([str(videos / "b.mp4")], run, top_k=2)
    first, second = answer["predictions"]
    lines = capsys.readouterr().out.splitlines()
    for line, prediction in zip(lines[1:], (first, second), strict=True):
        label, score, *bar = line.split()
        assert label == prediction["label"]
        assert score == f"{prediction['score']:.1%}"
        assert sum(map(len, bar)) == round(30 * prediction["score"])
    assert first["score"] > 0.9 and "█" * 27 in lines[1]


def test_a_folder_of_frames_is_one_clip_unless_it_holds_videos(run, videos, tmp_path):
    image = tf.io.encode_jpeg(np.full((40, 40, 3), 230, "uint8")).numpy()
    for folder in ("frames/clip", "thumbnails"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            (tmp_path / folder / f"{i}.jpg").write_bytes(image)
    shutil.copy(videos / "sub" / "a.avi", tmp_path / "thumbnails")
    answers = predict.predict([str(tmp_path)], run)
    assert best(answers) == {"clip": "bright", "a.avi": "dark"}
    assert best(predict.predict([str(tmp_path / "frames" / "clip")], run)) == {"clip": "bright"}


def test_links_that_lead_round_in_a_circle_are_followed_once(videos, tmp_path):
    (tmp_path / "link").symlink_to(videos)
    (tmp_path / "circle").symlink_to(tmp_path)
    clips, problems = predict.find_clips([str(tmp_path)])
    assert [os.path.basename(clip) for clip in clips] == ["b.mp4", "a.avi", "c.mp4"] and not problems


@pytest.fixture
def broken(videos, tmp_path):
    """Good and bad files in one folder."""
    folder = tmp_path / "some broken"
    shutil.copytree(videos / "sub", folder)
    (folder / "cut.mp4").write_bytes((videos / "b.mp4").read_bytes()[:-200])
    (folder / "notes.mp4").write_bytes(b"no video")
    write_audio(folder / "sound.mp4")
    return folder


def test_broken_files_are_reported_one_by_one_and_the_others_answered(run, broken, capsys, tmp_path):
    output = tmp_path / "answers.json"
    paths = [str(broken), "nowhere.mp4", str(broken / "a.avi")]
    answers = predict.predict(paths, run, outputs={"json": str(output), "csv": str(tmp_path / "answers.csv")})
    assert best(answers) == {"a.avi": "dark", "c.mp4": "middle"}
    lines = sorted(capsys.readouterr().err.splitlines())
    reasons = {
        "cut.mp4": "cut off",
        "notes.mp4": "not a video",
        "sound.mp4": "no video stream",
        "nowhere.mp4": "no such file",
    }
    for line, (name, reason) in zip(lines, reasons.items(), strict=True):
        assert re.search(rf"\b{name}: .*{reason}", line)
    assert all(line.startswith("predict.py: ") for line in lines)
    written = json.loads(output.read_text())["videos"]
    assert written == answers and sum("error" in answer for answer in written) == 4
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), r"holds no \.avi, .* file and no folder of \.jpg frames"),
        (lambda path: path.write_bytes(b""), "not a video"),
    ],
)
def test_where_nothing_is_answered_there_is_one_line_and_no_file(make, message, run, tmp_path, capsys):
    path = tmp_path / "what"
    make(path)
    outputs = {name: str(tmp_path / f"new.{name}") for name in ("json", "csv")}
    (answer,) = predict.predict([str(path)], run, outputs=outputs)
    assert re.search(message, answer["error"])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"predict.py: {path}: {answer['error']}\n"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"what"}


def test_a_table_has_a_row_for_each_video(run, videos, tmp_path):
    output = tmp_path / "scores.csv"
    answers = predict.predict([str(videos)], run, top_k=2, outputs={"csv": str(output)})
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
    answers = predict.predict([str(videos / "b.mp4")], run, protocol="paper", outputs={"json": str(output)})
    assert json.loads(output.read_text()) == {
        "model": run,
        "protocol": "paper",
        "num_frames": 4,
        "image_size": 32,
        "sampling": "segments",
        "videos": answers,
    }


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """Six seconds, ten frames each, that become ever brighter: from 20 to 220 in steps of 20 / 6."""
    return write_video(tmp_path_factory.mktemp("long") / "ramp.mp4", 60)


def test_a_timeline_has_the_windows_and_the_spans_where_they_agree(run, ramp, tmp_path, capsys):
    output = tmp_path / "windows.csv"
    (answer,) = predict.predict([ramp], run, window=1.0, stride=0.5, outputs={"csv": str(output)})
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [
        (start / 2, start / 2 + 1) for start in range(11)
    ]
    brightness = np.mean(decode_all(ramp), axis=(1, 2, 3))
    for row in rows:
        mean = brightness[int(float(row["start"]) * 10) :][:10].mean()
        assert row["label_1"] == NAMES[int(mean > DARK) + int(mean > BRIGHT)]
    assert {row["label_1"] for row in rows} == set(NAMES)
    # The spans lie end to end, and change half way between the middles of two windows.
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
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ramp and len(lines) == 4
    assert lines[1].startswith(f"  00:00:00.0 - 00:00:0{spans[0]['end']:.1f}  dark  ")


def test_windows_that_do_not_overlap_own_what_they_span():
    windows = [
        {"start": start, "end": start + 2, "predictions": [{"label": label, "score": score}]}
        for start, label, score in ((0, "a", 0.5), (2, "a", 0.7), (4, "b", 0.9), (5, "a", 1.0))
    ]
    assert [moment[:2] for moment in predict.moments(windows)] == [(0, 2), (2, 4), (4, 5.5), (5.5, 7)]
    spans = predict.merge(windows)
    assert [(s["start"], s["end"], s["label"]) for s in spans] == [(0, 4, "a"), (4, 5.5, "b"), (5.5, 7, "a")]
    assert [s["score"] for s in spans] == pytest.approx([0.6, 0.9, 1.0])


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "00:00:00.0"), (59.96, "00:01:00.0"), (3599.94, "00:59:59.9"), (36061.5, "10:01:01.5")],
)
def test_times_are_hours_minutes_and_seconds(seconds, text):
    assert predict.clock(seconds) == text


def test_a_timeline_goes_as_far_as_the_damage_and_says_so(run, tmp_path, capsys):
    path = write_video(tmp_path / "damaged.mp4", 60, brightness=200, options={"g": "1", "bf": "0"})
    damage(path, 45)
    output = tmp_path / "windows.json"
    outputs = {"json": str(output), "render": str(tmp_path / "drawn.mp4")}
    (answer,) = predict.predict([path], run, batch_size=1, window=1.0, stride=1.0, outputs=outputs)
    assert answer["spans"][-1]["end"] == pytest.approx(4, abs=0.01) and answer["error"]
    assert json.loads(output.read_text())["videos"] == [answer]
    captured = capsys.readouterr()
    assert "00:00:00.0 - 00:00:04.0  bright" in captured.out
    assert captured.err == f"predict.py: {path}: {answer['error']}\n"
    assert sorted(os.listdir(tmp_path)) == ["damaged.mp4", "windows.json"]


def frame_rate(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate


def luminance(frames):
    return np.asarray(frames).mean(axis=-1)


@pytest.mark.parametrize("height, width", [(240, 320), (352, 240)])
def test_the_rendered_video_is_the_same_but_for_what_is_drawn(height, width, run, tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, height=height, width=width, brightness=130)
    target = tmp_path / "drawn.mp4"
    (answer,) = predict.predict([path], run, outputs={"render": str(target)})
    before, after = decode_all(path).astype(int), decode_all(str(target)).astype(int)
    assert before.shape == after.shape == (20, height, width, 3)
    assert frame_rate(target) == 10 == frame_rate(path)
    panel = render.draw_panel(answer["predictions"], width, height)
    left = top = min(width, height) // 40
    inside = np.zeros((height, width), bool)
    inside[top : top + panel.height, left : left + panel.width] = True
    outside = ~inside
    # Colours are stored for two by two pixels.
    outside[top - 2 : top + panel.height + 2, left - 2 : left + panel.width + 2] = False
    assert np.abs(after - before)[:, outside].mean() < 4
    # Every frame is darker there, but for the letters.
    assert np.all(np.abs(after - before)[:, inside].mean(axis=(1, 2)) > 40)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_colours_stay_what_they_are(run, tmp_path):
    path, target = str(tmp_path / "red.mkv"), str(tmp_path / "drawn.mp4")
    with av.open(path, "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.height, video.width, video.pix_fmt = 240, 320, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), (230, 40, 60), "uint8"), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode())
    predict.predict([path], run, outputs={"render": target})
    assert decode_all(target)[0, 200:].mean(axis=(0, 1)) == pytest.approx((230, 40, 60), abs=4)


def test_with_windows_the_rendered_labels_are_those_of_the_moment(run, ramp, tmp_path, monkeypatch):
    drawn = []
    draw_panel = render.draw_panel

    def remember(predictions, *size):
        drawn.append([frame_number(), predictions[0]["label"]])
        return draw_panel(predictions, *size)

    numbers = []

    def count(path):
        for number, frame in enumerate(iterate_frames(path)):
            numbers.append(number)
            yield frame

    def frame_number():
        return numbers[-1]

    monkeypatch.setattr(render, "draw_panel", remember)
    monkeypatch.setattr(render, "iterate_frames", count)
    target = str(tmp_path / "drawn.mp4")
    (answer,) = predict.predict([ramp], run, window=1.0, stride=1.0, outputs={"render": target})
    assert [number for number, _ in drawn] == [0, 10, 20, 30, 40, 50]
    assert [label for _, label in drawn] == [w["predictions"][0]["label"] for w in answer["windows"]]
    assert probe(target).num_frames == 60


@pytest.mark.parametrize(
    "height, width, expected",
    [
        (64, 64, (256, 256)),
        (100, 176, (300, 528)),
        (240, 427, (240, 428)),
        (241, 243, (242, 244)),
        (121, 300, (242, 600)),
    ],
)
def test_small_frames_are_enlarged_and_odd_ones_made_even(height, width, expected):
    frames = np.random.default_rng(0).integers(0, 255, (2, height, width, 3), "uint8")
    predictions = [{"label": "clap", "score": 0.7}]
    labelled = list(render.label_frames(frames, [(math.inf, predictions)], rate=10))
    assert [frame.shape for frame in labelled] == [(*expected, 3)] * 2
    if min(height, width) >= 240:
        np.testing.assert_array_equal(labelled[1][height - 60 : height, :width], frames[1][height - 60 :])
        np.testing.assert_array_equal(labelled[1][-1, width // 2], frames[1][-1, width // 2])


@pytest.mark.parametrize("width, height", [(240, 240), (1920, 1080), (240, 5000), (5000, 240)])
@pytest.mark.parametrize("count", [1, 5, 400])
def test_the_panel_fits_into_the_frame(width, height, count):
    predictions = [{"label": "Pretending to put something behind something " * 9, "score": 1.0}] * count
    panel = render.draw_panel(predictions, width, height)
    margin = min(width, height) // 40
    assert panel.width + margin <= width and panel.height + margin <= height / 2


def test_bars_are_as_long_as_the_scores_and_text_stands_out():
    predictions = [{"label": "x", "score": score} for score in (1.0, 0.5, 0.0)]
    for background in (0, 128, 255):
        frame = np.full((480, 640, 3), background, "uint8")
        (drawn,) = render.label_frames([frame], [(math.inf, predictions)], rate=10)
        panel = render.draw_panel(predictions, 640, 480)
        inside = drawn[12 : 12 + panel.height, 12 : 12 + panel.width].astype(int)
        rows = np.split(inside[: panel.height // 3 * 3], 3)
        # Bars are blue, what is behind them is grey.
        blue = [((row[..., 2] - row[..., 0]) > 60).any(axis=0).mean() for row in rows]
        assert blue == pytest.approx([1, 0.5, 0], abs=0.03)
        assert inside.max() > 250
        # What is behind shines through, a third of it.
        assert np.median(luminance(inside)) == pytest.approx(background / 3, abs=1)


def test_a_long_name_is_cut_to_its_room():
    font = ImageFont.load_default(size=12)
    assert render.shorten("clap", font, 100) == "clap"
    short = render.shorten("putting something onto something", font, 100)
    assert short.endswith("…") and 80 < font.getlength(short) <= 100
    assert render.shorten("clap", font, 0) == "…"


def test_the_stated_rate_is_kept_where_time_stamps_are_rounded(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30)
    assert render.meant_rate(path, 9.95) == 10
    assert render.meant_rate(path, 29.97003) == fractions.Fraction(30000, 1001)


def test_a_turned_video_is_drawn_upright(run, tmp_path):
    path = write_video(tmp_path / "flat.mp4", 5, height=240, width=320)
    turned = copy_video(path, tmp_path / "turned.mp4", degrees=90)
    target = str(tmp_path / "drawn.mp4")
    predict.predict([turned], run, outputs={"render": target})
    assert decode_all(target).shape == (5, 320, 240, 3)


def test_damage_that_only_drawing_meets_is_reported_and_leaves_no_video(run, tmp_path, capsys):
    path = write_video(tmp_path / "damaged.mp4", 60, options={"g": "1", "bf": "0"})
    damage(path, 59)
    outputs = {"render": str(tmp_path / "drawn.mp4")}
    (answer,) = predict.predict([path], run, outputs=outputs)
    assert answer["predictions"] and answer["error"]
    assert capsys.readouterr().err.startswith(f"predict.py: {path}: ")
    assert os.listdir(tmp_path) == ["damaged.mp4"]


def test_a_video_that_cannot_be_written_leaves_nothing(run, ramp, tmp_path, monkeypatch):
    def full(*args):
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(render, "label_frames", full)
    with pytest.raises(OSError, match="cannot be written"):
        predict.predict([ramp], run, outputs={"render": str(tmp_path / "drawn.mp4")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "outputs, message",
    [
        ({"json": "there.json"}, "--json=there.json exists"),
        ({"csv": "nowhere/new.csv"}, "--csv=nowhere/new.csv: .*nowhere"),
        ({"csv": "folder"}, "--csv=folder "),
        ({"csv": "new", "json": "./new"}, "--csv, --json "),
        ({"render": "new.webm"}, "--render=new.webm .*mp4"),
        ({"render": "new.mp4"}, "--render "),
        ({"render": "a.mp4"}, "--render=a.mp4 is one of the videos"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_must_not_be_written_are_named_before_any_work(
    overwrite, outputs, message, videos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("years of work")
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        shutil.copy(videos / "b.mp4", f"{name}.mp4")
    monkeypatch.setattr(predict, "VideoClassifier", mock.Mock(side_effect=AssertionError("work")))
    if overwrite and "json" in outputs and len(outputs) == 1:
        with pytest.raises(AssertionError, match="work"):
            predict.predict(["a.mp4", "b.mp4"], outputs=outputs, overwrite=True)
    else:
        with pytest.raises(ValueError, match=message):
            predict.predict(["a.mp4", "b.mp4"], outputs=outputs, overwrite=overwrite)
    assert (tmp_path / "there.json").read_text() == "years of work"


def test_overwrite_replaces_the_file(run, videos, tmp_path):
    (tmp_path / "scores.json").write_text("old")
    outputs = {"json": str(tmp_path / "scores.json")}
    predict.predict([str(videos / "b.mp4")], run, outputs=outputs, overwrite=True)
    assert json.loads((tmp_path / "scores.json").read_text())["videos"]


def test_an_error_while_writing_keeps_what_was_there(run, videos, tmp_path, monkeypatch):
    (tmp_path / "scores.json").write_text("old")
    monkeypatch.setattr(predict.json, "dump", mock.Mock(side_effect=OSError("disk full")))
    outputs = {"json": str(tmp_path / "scores.json")}
    with pytest.raises(OSError, match="disk full"):
        predict.predict([str(videos / "b.mp4")], run, outputs=outputs, overwrite=True)
    assert (tmp_path / "scores.json").read_text() == "old" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    "paths, arguments, message",
    [
        ([], {}, "no video"),
        (["a.mp4"], {"stride": 1.0}, "--stride .*--window"),
        (["a.mp4"], {"model": "nowhere"}, "nowhere"),
    ],
)
def test_arguments_that_do_not_go_together_are_named(paths, arguments, message):
    with pytest.raises(ValueError, match=message):
        predict.predict(paths, **arguments)


@pytest.mark.parametrize("window", [None, 1.0])
def test_a_bar_shows_the_time_left_where_a_person_watches(window, run, videos, ramp, monkeypatch):
    terminal = mock.Mock(wraps=io.StringIO(), encoding="utf-8", **{"isatty.return_value": True})
    monkeypatch.setattr(sys, "stdout", terminal)
    predict.predict([ramp] if window else [str(videos)], run, window=window)
    shown = "".join(call.args[0] for call in terminal.write.call_args_list)
    assert ("1/6" if window else "1/3") in shown
    # A bar is wiped before an answer is printed over it, and none is left in the end.
    *_, last_answer = shown.split("\r\033[K")
    assert last_answer.startswith(ramp if window else str(videos)) and "\r" not in last_answer


def test_no_bar_is_written_into_files(run, videos, capsys):
    predict.predict([str(videos)], run)
    assert "\r" not in capsys.readouterr().out


GOOD, BAD = {"file": "a", "predictions": []}, {"file": "b", "error": "broken"}


@pytest.mark.parametrize(
    "outcome, status",
    [
        ([GOOD], 0),
        ([GOOD, BAD], 2),
        ([BAD], 1),
        ([{**BAD, "windows": []}], 2),
        (ValueError("no such model"), "predict.py: no such model"),
        (ImportError("No module named 'PIL'"), "predict.py: No module named 'PIL'"),
        (OSError("disk full"), "predict.py: disk full"),
    ],
)
def test_the_status_tells_how_many_were_answered(outcome, status, monkeypatch):
    monkeypatch.setattr(predict, "predict", mock.Mock(side_effect=[outcome]))
    with pytest.raises(SystemExit) as stop:
        predict.main([SCRIPT, "a"])
    assert stop.value.code == status


@pytest.mark.every_backend
def test_the_command_writes_the_scores_of_a_runs_model(trained_run, clips, tmp_path):
    paths = [path for path, _ in open_dataset("folder", clips, split="validation").records][::3]
    output = tmp_path / "scores.json"
    with pytest.raises(SystemExit) as stop:
        predict.main([SCRIPT, *paths, f"--model={trained_run}", "--top_k=8", f"--json={output}"])
    assert stop.value.code == 0
    answers = json.loads(output.read_text())["videos"]
    assert [answer["file"] for answer in answers] == paths
    trained = inference.load(trained_run)
    prepared = np.concatenate([load_clip(path, trained.num_frames, trained.image_size) for path in paths])
    for answer, expected in zip(answers, numpy(compute(trained.model, prepared)), strict=True):
        scores = {each["label"]: each["score"] for each in answer["predictions"]}
        assert [scores[name] for name in trained.class_names] == pytest.approx(expected, abs=1e-5)
    assert len({answer["predictions"][0]["label"] for answer in answers}) > 1


def test_the_command_answers_by_the_main_jobs_model_and_ends_with_its_status(run, broken, tmp_path):
    shutil.copytree(run, tmp_path / "saved_models" / "small-stm_small")
    command = [sys.executable, SCRIPT, str(broken), "--json=scores.json", "--top_k=2", "--batch_size=2"]
    # As on a terminal that knows no letters but those of English.
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == 2, result.stderr
    assert len(result.stdout.splitlines()) == 2 * 3
    names = [re.search(r"\w+\.mp4: ", line)[0] for line in result.stderr.splitlines() if ".mp4" in line]
    assert names == ["cut.mp4: ", "notes.mp4: ", "sound.mp4: "]
    assert "Traceback" not in result.stderr
    assert best(json.loads((tmp_path / "scores.json").read_text())["videos"]) == {
        "a.avi": "dark",
        "c.mp4": "middle",
    }


def test_the_command_says_in_a_line_that_there_is_no_model(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^predict.py: .*small-stm_small'$") as stop:
        predict.main([SCRIPT, str(videos / "b.mp4")])
    assert "\n" not in stop.value.code and capsys.readouterr().out == ""


def test_video_errors_of_every_kind_end_up_in_one_line(run, tmp_path, monkeypatch, capsys):
    error = VideoError("a.mp4", "too large", "900 frames of 9x9 take more than 7 bytes")
    monkeypatch.setattr(VideoClassifier, "iterate", lambda self, clips: [error])
    (answer,) = predict.predict(["a.mp4"], run)
    assert answer == {"file": "a.mp4", "error": "900 frames of 9x9 take more than 7 bytes"}
    assert capsys.readouterr().err == "predict.py: a.mp4: 900 frames of 9x9 take more than 7 bytes\n"
