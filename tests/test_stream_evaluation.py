"""Streams of known answers: what is counted, and when a stream starts anew."""

import numpy as np
import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.stream_evaluation import evaluate_streams

NAMES = ("a", "b", "c")


def video(label, never_reset, reset="?"):
    """Returns a video whose frames are the answers to them, as digits, to the two halves of the rows."""
    answers = [int(digit) for digit in never_reset]
    reset = [int(digit) for digit in reset] if reset != "?" else answers
    return f"{label}.mp4", label, np.array([answers, reset], "float32").T.reshape(-1, 1, 1, 2)


class Answers:
    """Scores that are the frames' own answers; keeps which rows started anew."""

    def __init__(self):
        self.starts = []

    def __call__(self, frames, starts):
        self.starts.append(starts.tolist())
        streams = len(frames) // 2
        halves = [frames[:streams, 0, 0, 0], frames[streams:, 0, 0, 1]]
        return np.eye(3, dtype="float32")[np.concatenate(halves).astype(int)]


def test_a_case_worked_out_by_hand():
    step, told = Answers(), []
    streams = [
        # Right from the second frame on; then one frame late, and at the end alone.
        [video(0, "10"), video(1, "011", "111"), video(1, "001")],
        # Right in between, but not at the end; reset, it is right.
        [video(2, "2212", "2222"), video(0, "121", "000")],
    ]
    found = evaluate_streams(step, streams, NAMES, lambda *video: told.append(video))
    assert found.never_reset.num_videos == found.reset.num_videos == 5
    assert found.never_reset.top1 == 4 / 5 and found.reset.top1 == 1
    assert sorted(found.delays) == [2, 2, 3, 4] and found.median_delay == 2.5
    assert found.never_right == 1
    # Two videos come after another class; of their six frames, one and one have the class before.
    assert (found.frames_after_another, found.frames_named_before) == (6, 2)
    assert found.named_before == pytest.approx(2 / 6)
    paths = [path for path, _, _, _ in told]
    assert sorted(paths) == ["0.mp4", "0.mp4", "1.mp4", "1.mp4", "2.mp4"] and paths[0] == "0.mp4"
    # Only the second half of the rows starts anew, with each video; a stream that is over never does.
    assert [starts[:2] for starts in step.starts] == [[False, False]] * 8
    assert [starts[2] for starts in step.starts] == [True, False, True, False, False, True, False, False]
    assert [starts[3] for starts in step.starts] == [True, False, False, False, True, False, False, False]


def test_what_does_not_occur_has_no_number():
    found = evaluate_streams(Answers(), [[video(0, "1")]], NAMES)
    assert found.median_delay is None and found.named_before is None
    assert found.never_right == 1


def test_streams_without_videos_are_refused():
    with pytest.raises(ArgumentError) as error:
        evaluate_streams(Answers(), [[], []], NAMES)
    assert error.value.name == "streams"
