"""The rate of training clips, and videos in streams at a rate."""

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, LeftOut
from keras_stm.data.streams import make_streams, typical_rate
from keras_stm.data.views import read_views
from tests.data.errors import argument_error
from tests.data.videos import write_video

FRAMES = (6, 10, 10, 90, 20)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Videos of 10 frames a second, of different lengths."""
    folder = tmp_path_factory.mktemp("five")
    paths = [write_video(folder / f"{i}.mp4", frames, height=32) for i, frames in enumerate(FRAMES)]
    return Dataset([(str(path), i % 2) for i, path in enumerate(paths)], ("a", "b"))


def frame_folder(path):
    path.mkdir()
    for name in ("0", "1"):
        (path / f"{name}.jpg").write_bytes(tf.io.encode_jpeg(np.zeros((32, 32, 3), "uint8")).numpy())
    return Dataset([(str(path), 0)], ("a",))


def test_the_rate_is_that_of_the_median_clip(five, tmp_path):
    assert typical_rate(five, 8, "segments") == pytest.approx(8 / 1.0)
    # A window of 64 frames, or the whole video; 16 frames are 4 apart, or 1.
    longest = Dataset(five.records[3:4], ("a", "b"))
    assert typical_rate(longest, 16, "dense") == pytest.approx(10 / 4)
    assert typical_rate(Dataset(five.records[4:], ("a", "b")), 16, "dense") == pytest.approx(10)
    (tmp_path / "notes.mp4").write_text("no video")
    assert typical_rate(Dataset([(str(tmp_path / "notes.mp4"), 0)], ("a",)), 8, "segments") is None
    assert typical_rate(frame_folder(tmp_path / "frames"), 8, "segments") is None


def test_each_video_is_in_one_stream_at_the_rate_in_an_order_of_the_seed(five):
    arguments = {"streams": 2, "image_size": 14, "rate": 5.0}
    streams = [list(stream) for stream in make_streams(five, **arguments)]
    assert [len(stream) for stream in streams] == [3, 2]
    played = [video for stream in streams for video in stream]
    assert sorted((path, label) for path, label, _ in played) == sorted(five.records)
    order = [path for path, _, _ in played]
    frames = {path: frames for path, _, frames in played}
    assert [len(frames[path]) for path, _ in five.records] == [count // 2 for count in FRAMES]
    longest = five.records[3][0]
    np.testing.assert_array_equal(frames[longest], read_views(longest, 45, 14)[0])

    def order_of(seed):
        return [path for stream in make_streams(five, **arguments, seed=seed) for path, _, _ in stream]

    assert order_of(0) == order and order_of(1) != order


def test_a_stream_has_at_least_two_videos_and_skips_unreadable_ones(five, tmp_path):
    (tmp_path / "notes.mp4").write_text("no video")
    left_out = LeftOut(6)
    with_notes = Dataset([*five.records, (str(tmp_path / "notes.mp4"), 0)], ("a", "b"))
    streams = make_streams(with_notes, streams=8, image_size=14, rate=1.0, left_out=left_out)
    assert len(streams) == 3
    assert sum(len(list(stream)) for stream in streams) == 5
    assert list(left_out.reasons) == [str(tmp_path / "notes.mp4")]


def test_without_a_rate_or_a_length_videos_have_the_frames_of_a_clip(five, tmp_path):
    (stream,) = make_streams(Dataset(five.records[:2], ("a", "b")), image_size=14, num_frames=3)
    assert [len(frames) for _, _, frames in stream] == [3, 3]
    (stream,) = make_streams(frame_folder(tmp_path / "frames"), image_size=14, num_frames=3, rate=5.0)
    assert [len(frames) for _, _, frames in stream] == [3]


@pytest.mark.parametrize(
    "name, value", [("streams", 0), ("rate", -1.0), ("workers", 0), ("num_frames", 0), ("image_size", 0)]
)
def test_wrong_arguments_are_named(five, name, value):
    with argument_error(name, value):
        make_streams(five, **{name: value})
