"""What is written of a stream, and how it ends."""

import json
import os

import pytest

from keras_stm import streaming
from keras_stm.data.video import VideoError, frame_times, probe
from tests import brightness
from tests.data.videos import damage, decode_all, write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return brightness.write_run(tmp_path_factory.mktemp("saved_models") / "run")


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    return brightness.write_ramp(tmp_path_factory.mktemp("long") / "ramp.mp4")


def test_lines_of_json_are_readable_at_once_and_say_what_is_recognised(run, ramp, tmp_path):
    path, seen = tmp_path / "answers.jsonl", []

    def read(answer, stream):
        seen.append(answer)
        assert [json.loads(line) for line in path.read_text().splitlines()] == seen

    end = streaming.stream(ramp, run, rate=5, json_file=str(path), threshold=0.8, on_answer=read)
    assert end.error is None and end.stream.taken == 30
    assert [answer["time"] for answer in seen] == pytest.approx([number / 5 for number in range(30)])
    labels = [answer["label"] for answer in seen]
    assert [label for label in dict.fromkeys(labels) if label] == ["dark", "middle", "bright"]
    for answer in seen:
        best = answer["predictions"][0]
        assert answer["label"] == (best["label"] if best["score"] > 0.8 else None)
    assert None in labels


def test_the_video_has_the_frames_that_the_model_takes_at_their_times(run, ramp, tmp_path):
    path = str(tmp_path / "drawn.mp4")
    streaming.stream(ramp, run, rate=5, video_file=path)
    found = decode_all(path)
    # The frames are enlarged to 256 pixels, and the panel is at the top.
    expected = decode_all(ramp)[::2].mean(axis=(1, 2, 3))
    assert found.shape == (30, 256, 384, 3)
    assert found[:, 200:].mean(axis=(1, 2, 3)) == pytest.approx(expected, abs=6)
    assert frame_times(path) / 1e6 == pytest.approx([number / 5 for number in range(30)], abs=2e-3)
    assert os.listdir(tmp_path) == ["drawn.mp4"]


@pytest.mark.parametrize("end", ["ctrl-c", "damage"])
def test_what_was_answered_before_the_end_is_kept(end, run, ramp, tmp_path):
    source = ramp
    if end == "damage":
        source = write_video(tmp_path / "damaged.mp4", 60, options={"g": "1", "bf": "0"})
        damage(source, 12)

    def answer(answer, stream):
        if end == "ctrl-c" and stream.taken == 8:
            raise KeyboardInterrupt

    path, lines = str(tmp_path / "drawn.mp4"), tmp_path / "answers.jsonl"
    found = streaming.stream(source, run, rate=10, video_file=path, json_file=str(lines), on_answer=answer)
    assert isinstance(found.error, VideoError) == (end == "damage")
    count = len(lines.read_text().splitlines())
    assert count == found.stream.taken == probe(path).num_frames
    assert count == 8 if end == "ctrl-c" else 5 < count <= 12
