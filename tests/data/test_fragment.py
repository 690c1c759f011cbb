"""Parts of a video file: their names, their frames in every container, and what is wrong with them."""

import itertools
import os
import shutil

import numpy as np
import pytest

from keras_stm.data import fragment, frames, video
from keras_stm.data.checking import inspect
from keras_stm.data.fragment import Part
from keras_stm.data.video import VideoError
from keras_stm.data.windows import iterate_windows
from tests.data.videos import KINDS, damage, decode_all, write_video

S = 10**6


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A video of 60 frames, 10 a second, of each kind: `{kind: path}`."""
    folder = tmp_path_factory.mktemp("parts")
    return {
        kind: write_video(folder / f"{i}{extension}", 60, codec, options)
        for i, (kind, (codec, options, extension)) in enumerate(KINDS.items())
    }


@pytest.fixture(params=[5, 10**6], ids=["far", "near"])
def far(request, monkeypatch):
    """Files are searched for a place, or read from their start, as if they were long or short."""
    monkeypatch.setattr(video, "_FAR", request.param)
    video._kept.clear()


@pytest.mark.parametrize(
    "text, part",
    [
        ("#t=1.5,4", (1_500_000, 4 * S)),
        ("#t=1.5", (1_500_000, None)),
        ("#t=,4", (0, 4 * S)),
        ("#t=npt:10,20", (10 * S, 20 * S)),
        ("#t=npt:,20.", (0, 20 * S)),
        ("#t=00:01:02.5,1:02:03", (62_500_000, 3723 * S)),
        ("#t=01:05,120", (65 * S, 120 * S)),
        ("#t=0.06666666666666667", (66_667, None)),
        ("#t=4,1", None),
        ("#t=1,1", None),
        ("", None),
        ("#t=", None),
        ("#t=1,", None),
        ("#t=1,2,3", None),
        ("#t=-1", None),
        ("#t=1e3", None),
        ("#t=00:61,90", None),
        ("#t=1:60:00", None),
        ("#t=smpte:00:00:01:00", None),
        ("#t=1 s", None),
        ("#xywh=1,2,3,4", None),
    ],
)
def test_a_name_tells_the_part(text, part):
    assert fragment.parse(f"a/b #t=c.mp4{text}") == (part and Part("a/b #t=c.mp4", *part))
    if part:
        joined = fragment.join("a.mp4", *part)
        assert fragment.parse(joined) == Part("a.mp4", *part) and len(joined) <= len("a.mp4#t=0.066667,3723")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start, stop", [(0, 60), (0, 1), (7, 23), (23, 24), (35, 60)])
def test_a_part_has_the_frames_from_its_start_to_before_its_end(videos, far, kind, start, stop):
    path = videos[kind]
    expected = decode_all(path)[start:stop]
    part = f"{path}#t={start / 10},{stop / 10}"
    assert frames.count_frames(part) == stop - start
    np.testing.assert_array_equal(frames.read_frames(part, range), expected)
    np.testing.assert_array_equal(np.stack(list(frames.iterate_frames(part))), expected)
    last_first = frames.read_frames(part, [stop - start - 1, 0])
    np.testing.assert_array_equal(last_first, expected[[-1, 0]])
    info = frames.probe(part)
    assert info[:3] == (stop - start, 32, 48)
    assert info.frame_rate == pytest.approx(10, rel=1e-3)
    assert info.seconds == pytest.approx((stop - start) / 10, rel=1e-3)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("#t=,0.1", range(2)),
        ("#t=0.1", range(2, 5)),
        ("#t=0.0999999,0.4", range(2, 3)),
        ("#t=0.0400004,0.1", range(1, 2)),
        ("#t=0.05,1.000001", range(2, 5)),
    ],
)
def test_times_are_those_at_which_frames_are_shown(tmp_path, text, expected):
    """The file begins at another time than 0, and its frames have no constant distance."""
    times = [500, 540, 600, 900, 1500]
    path = write_video(tmp_path / "clip.mkv", 5, times=times)
    np.testing.assert_array_equal(frames.read_frames(path + text, range), decode_all(path)[expected])
    assert frames.frame_times(path + text)[0] == (times[expected[0]] - 500) * 1000


def test_only_the_groups_of_pictures_of_a_part_are_decoded(videos, far, monkeypatch):
    path = videos["h264 with B-frames"]
    monkeypatch.setattr(video, "_decode_all", None)
    converted = []
    convert = video._to_rgb
    monkeypatch.setattr(video, "_to_rgb", lambda *args: converted.append(args) or convert(*args))
    assert len(list(frames.iterate_frames(f"{path}#t=4.5,5"))) == len(converted) == 5
    # Damage elsewhere does not matter.
    damaged = shutil.copy(path, os.path.join(os.path.dirname(path), "damaged.mp4"))
    damage(damaged, 12)
    np.testing.assert_array_equal(
        frames.read_frames(f"{damaged}#t=4.5,5", range), frames.read_frames(f"{path}#t=4.5,5", range)
    )


def test_a_file_that_changes_is_read_anew(videos, far, tmp_path):
    path = shutil.copy(videos["h264 with B-frames"], tmp_path / "clip.mp4")
    assert frames.count_frames(f"{path}#t=1") == 50
    write_video(path, 20)
    assert frames.count_frames(f"{path}#t=1") == 10
    assert len(frames.read_frames(f"{path}#t=1", range)) == 10


@pytest.mark.parametrize(
    "text, kind, message",
    [
        ("#t=9,10", "unreadable", "has no frames from 9 s to 10 s; the last frame of the file is at 5.9 s"),
        ("#t=6", "unreadable", "has no frames from 6 s to the end"),
        ("#t=0.41,0.49", "unreadable", "has no frames from 0.41 s to 0.49 s"),
        ("x#t=1,2", "missing", "no such file"),
    ],
)
def test_a_part_without_frames_says_so(videos, text, kind, message):
    path = videos["mpeg4"] + text
    for read in (frames.count_frames, frames.probe, lambda path: frames.read_frames(path, [0])):
        with pytest.raises(VideoError) as error:
            read(path)
        assert error.value.kind == kind and error.value.path == path
        assert str(error.value).startswith(f"{path}: {message}")
    assert inspect(path, "train", 0, decode=False).reason.startswith(message)


def test_a_folder_of_frames_has_no_parts(tmp_path):
    with pytest.raises(VideoError, match="folder of frames, which states no times"):
        frames.count_frames(f"{tmp_path}#t=1,2")


def test_a_file_of_such_a_name_is_a_file(videos, tmp_path):
    path = shutil.copy(videos["mpeg4"], str(tmp_path / "clip.avi#t=1,2"))
    assert frames.count_frames(path) == 60 and frames.file_of(path) == path
    assert frames.file_of(f"{path}#t=0,1") == path and frames.count_frames(f"{path}#t=0,1") == 10


def test_windows_slide_over_a_part(videos):
    path = videos["h264 with B-frames"]
    part = list(iterate_windows(f"{path}#t=2,5", window=1, num_frames=2, image_size=32))
    whole = {window.start: window for window in iterate_windows(path, 1, 0.5, num_frames=2, image_size=32)}
    assert [window[:2] for window in part] == [(i / 2, i / 2 + 1) for i in range(5)]
    for window in part:
        np.testing.assert_array_equal(window.views, whole[window.start + 2].views)


def test_kept_entries_are_limited(videos, monkeypatch):
    monkeypatch.setattr(video, "_FAR", 5)
    monkeypatch.setattr(video, "_MOST_KEPT", 130)
    video._kept.clear()
    for path in itertools.islice(videos.values(), 4):
        video.count_frames(path)
    assert [key[0] for key in video._kept] == list(videos.values())[2:4]


@pytest.mark.parametrize("text", ["#t=1s,2s", "#t=3,2", "#t=", "#t=1,"])
def test_a_wrong_part_is_told_by_every_reader(videos, text):
    path = next(iter(videos.values()))
    for read in (frames.count_frames, frames.probe, lambda path: frames.read_frames(path, [0])):
        with pytest.raises(VideoError, match="is not a part of .*: expected #t=START,END") as error:
            read(path + text)
        assert error.value.path == path + text
    with pytest.raises(VideoError, match="no such file"):
        frames.count_frames("nowhere.mp4#t=1s")
