import weakref

import numpy as np
import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.data import fragment
from keras_stm.data import windows as module
from keras_stm.data.frames import read_frames
from keras_stm.data.video import VideoError, VideoInfo
from keras_stm.data.views import read_views
from keras_stm.data.windows import iterate_windows, place_windows
from tests.data.errors import argument_error
from tests.data.videos import KINDS, damage, decode_all, write_video


@pytest.mark.parametrize(
    "frames, rate, window, stride, starts, length",
    [
        (60, 10, 2, 2, [0, 20, 40], 20),
        (60, 10, 2, 1, [0, 10, 20, 30, 40], 20),
        # The last window ends with the video.
        (65, 10, 2, 2, [0, 20, 40, 45], 20),
        # A video that is not longer than the window has one window.
        (15, 10, 2, 1, [0], 15),
        (20, 10, 2, 1, [0], 20),
        (1, 10, 2, 1, [0], 1),
        # A window shorter than a frame has one frame.
        (4, 10, 0.01, 0.01, [0, 1, 2, 3], 1),
        # A stride of 2.5 frames is kept on average.
        (20, 10, 0.5, 0.25, [0, 2, 5, 8, 10, 12, 15], 5),
    ],
)
def test_windows_lie_from_first_to_last_frame(frames, rate, window, stride, starts, length):
    assert place_windows(frames, rate, window, stride) == (starts, length)


def test_an_hour_of_windows_does_not_drift():
    rate = 30000 / 1001
    starts, length = place_windows(107892, rate, 2, 1)
    assert length == 60 and len(starts) == 3599
    for second in (0, 1, 1800, 3597):
        assert abs(starts[second] / rate - second) <= 0.5 / rate


@pytest.fixture(scope="module", params=["h264 with B-frames", "mpeg4 with B-frames"])
def video(request, tmp_path_factory):
    """The path of a video of 43 frames at 10 frames/s, and its frames."""
    codec, options, extension = KINDS[request.param]
    folder = tmp_path_factory.mktemp("video")
    path = write_video(folder / f"video{extension}", num_frames=43, codec=codec, options=options)
    return path, decode_all(path)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1, "stride": 0.4, "num_frames": 4},
        # More frames than the window has.
        {"window": 0.4, "num_frames": 8},
        # The video is shorter than the window.
        {"window": 60, "num_frames": 4},
        {"window": 2, "stride": 2, "num_frames": 3, "crops": 3},
        {"window": 2.7, "stride": 0.1, "num_frames": 5, "sampling": "dense"},
    ],
)
def test_windows_are_views_of_slices_of_the_decoded_video(video, options):
    path, frames = video
    window = options["window"]
    length, stride = min(round(window * 10), 43), options.get("stride", window / 2)
    starts = [round(i * stride * 10) for i in range(43) if round(i * stride * 10) < 43 - length]
    starts.append(43 - length)

    found = list(iterate_windows(path, image_size=16, **options))
    views = {name: options[name] for name in ("num_frames", "crops", "sampling") if name in options}
    assert len(found) == len(starts)
    for start, window in zip(starts, found, strict=True):
        assert window.start == pytest.approx(start / 10, abs=0.001)
        assert window.end == pytest.approx((start + length) / 10, abs=0.001)
        expected = read_views(frames[start : start + length], image_size=16, **views)
        np.testing.assert_array_equal(window.views, expected)


def test_times_are_those_of_the_frames_where_their_distances_vary(tmp_path):
    """The part between the start and the end of a window has the frames of the window."""
    times = np.cumsum([0, *np.random.default_rng(0).integers(10, 400, 39)]).tolist()
    path = write_video(tmp_path / "variable.mp4", 40, times=times)
    for source, first in ((path, 0), (f"{path}#t={times[5] / 1000}", 5)):
        windows = list(iterate_windows(source, 1, 1, num_frames=2, image_size=16))
        assert len(windows) > 3
        for window in windows:
            start, end = (round(time * 1e6) + times[first] * 1000 for time in window[:2])
            part = read_frames(fragment.join(path, start, end), lambda count: range(count))
            np.testing.assert_array_equal(read_views(part, 2, 16), window.views)
        assert windows[0].start == 0


@pytest.mark.parametrize("num_frames, window, stride, kept", [(4, 5, 5, 4), (4, 5, 2.5, 8), (8, 10, 2.5, 32)])
def test_a_long_video_is_decoded_once_and_few_of_its_frames_are_kept(
    num_frames, window, stride, kept, monkeypatch
):
    alive = weakref.WeakSet()
    decoded, most = [], 0

    class Frame(np.ndarray):
        # Arrays are not hashable, but a set needs hashable items.
        __hash__ = object.__hash__

    def iterate_frames(path):
        nonlocal most
        for number in range(1000):
            frame = np.full((8, 8, 3), number % 256, "uint8").view(Frame)
            decoded.append(number)
            alive.add(frame)
            yield frame
            most = max(most, len(alive))

    monkeypatch.setattr(module, "iterate_frames", iterate_frames)
    monkeypatch.setattr(module.frames, "probe", lambda path: VideoInfo(1000, 8, 8, 10.0, 100.0))
    monkeypatch.setattr(module.frames, "frame_times", lambda path: np.arange(1000) * 100_000)
    assert len(list(iterate_windows("long.mp4", window, stride, num_frames, image_size=8))) > 18
    assert decoded == list(range(1000))
    # In addition to the kept frames: the frame just decoded and the one before it.
    assert num_frames <= most <= kept + 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": 0},
        {"window": float("nan")},
        {"window": "2"},
        {"window": True},
        {"stride": -1},
        {"stride": 2.1},
    ],
)
def test_wrong_arguments_are_named_at_once(arguments):
    ((name, value),) = arguments.items()
    with argument_error(name, value):
        iterate_windows("nowhere.mp4", **{"window": 2, **arguments})


def test_too_few_frames_are_named_at_once(tmp_path):
    path = write_video(tmp_path / "video.mp4")
    with pytest.raises(ArgumentError) as error:
        iterate_windows(path, 2, num_frames=0)
    assert error.value.value == 0


def test_files_that_cannot_be_read_are_named_at_once(tmp_path):
    with pytest.raises(VideoError, match="nowhere.mp4: "):
        iterate_windows(tmp_path / "nowhere.mp4", 2)


def test_a_video_of_unknown_frame_rate_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module.frames, "probe", lambda path: VideoInfo(30, 8, 8, None, None))
    with pytest.raises(VideoError, match="^frames: "):
        iterate_windows("frames", 2)


def test_windows_before_the_damage_are_given(tmp_path):
    path = write_video(tmp_path / "video.mp4", 60, options={"g": "1", "bf": "0"})
    damage(path, 35)
    found = []
    with pytest.raises(VideoError, match="video.mp4: "):
        for window in iterate_windows(path, 1, 1, num_frames=2, image_size=8):
            found.append(window.start)
    assert found == pytest.approx([0, 1, 2], abs=0.01)
