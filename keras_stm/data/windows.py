"""Splits a long video into windows of a few seconds.

Each window is one clip. The video is decoded in one pass, with few frames in memory.
"""

import collections
import math
import numbers
import typing

import numpy as np

from keras_stm.arguments import ArgumentError
from keras_stm.data import frames, segments
from keras_stm.data.frames import iterate_frames
from keras_stm.data.video import VideoError, check_size
from keras_stm.data.views import read_views


class Window(typing.NamedTuple):
    """Part of a video: its start and end in seconds, and its views as `read_views` returns them."""

    start: float
    end: float
    views: np.ndarray


def iterate_windows(path, window, stride=None, num_frames=8, image_size=224, crops=1, sampling="segments"):
    """Iterates over the windows of a video.

    The video is decoded once, from first to last frame. Only frames that an incomplete window needs
    are kept in memory. All windows have the same number of frames: the mean frame rate converts their length
    to frames. Their start and end are the times of their frames.

    Args:
        path: video file, or a part of one; see `fragment`. Times are relative to the start of the part.
        window: length in seconds. A shorter video is one window.
        stride: seconds from the start of one window to the start of the next, at most `window`, so
            that the windows cover the whole video. `None` is half of `window`. The last window ends
            with the video.
        num_frames: frames in the clip of a window; see `read_views`.
        image_size: height and width of the clip in pixels.
        crops: views in space; see `read_views`.
        sampling: `"segments"` or `"dense"`; see `read_views`.

    Returns:
        Iterator of `Window`.

    Raises:
        VideoError: the file is unreadable or states no frame rate. A damaged part raises during
            iteration, when it is reached.
        ValueError: another argument is invalid.
    """
    window = _positive_seconds("window", window)
    stride = window / 2 if stride is None else _positive_seconds("stride", stride)
    if stride > window:
        raise ArgumentError(
            "stride", stride, f"must be at most `window`, {window}, or parts of the video would be skipped"
        )
    info = frames.probe(path)
    if info.frame_rate is None:
        raise VideoError(path, "unreadable", "states no frame rate, which windows need")
    starts, length = place_windows(info.num_frames, info.frame_rate, window, stride)
    indices = segments.clip_indices(length, num_frames, sampling)
    check_size(path, len(indices), info.height, info.width)
    times = frames.frame_times(path)
    # A frame is shown until the next one; the last one for as long as the others on average.
    times = np.append(times - times[0], times[-1] - times[0] + round(1e6 / info.frame_rate)) / 1e6
    return _iterate(path, starts, length, times, indices, image_size, crops)


def place_windows(total_frames, frame_rate, window, stride):
    """Returns the first frame of each window, and the number of frames in a window.

    Args:
        total_frames: frames in the video.
        frame_rate: frames per second.
        window: length of a window in seconds.
        stride: seconds from the start of one window to the start of the next.

    Returns:
        List of 0-based frame indices, ascending from 0, and the number of frames in a window.
    """
    length = min(max(round(window * frame_rate), 1), total_frames)
    # Rounding may make a window shorter than the stride. The limit ensures that no frame is skipped.
    step = min(max(stride * frame_rate, 1), length)
    last = total_frames - length
    # Each start is rounded separately, so that the error does not grow along the video.
    starts = {min(round(i * step), last) for i in range(math.ceil(last / step))}
    return sorted(starts | {last}), length


def _iterate(path, starts, length, times, indices, image_size, crops):
    # How often the clip uses each frame of its window. A clip with more frames than its window repeats some.
    repeats = np.bincount(indices, minlength=length)
    upcoming = collections.deque(starts)
    # Incomplete windows, in the order in which they will be complete.
    waiting = collections.deque()
    for number, frame in enumerate(iterate_frames(path)):
        if upcoming and upcoming[0] == number:
            waiting.append((upcoming.popleft(), []))
        for start, kept in waiting:
            kept.extend([frame] * repeats[number - start])
        if waiting and len(waiting[0][1]) == len(indices):
            start, kept = waiting.popleft()
            # There are as many frames as segments, so `read_views` uses every frame once.
            views = read_views(np.stack(kept), len(kept), image_size, crops=crops)
            yield Window(float(times[start]), float(times[start + length]), views)


def _positive_seconds(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise ArgumentError(name, value, "must be a positive number of seconds")
    return value
