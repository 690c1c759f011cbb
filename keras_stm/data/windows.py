"""A long video -> windows of a few seconds, each a clip, in one pass and with few frames in memory."""

import collections
import math
import numbers
import typing

import numpy as np

from keras_stm.arguments import ArgumentError
from keras_stm.data import frames, segments
from keras_stm.data.video import VideoError, check_size, iterate_frames
from keras_stm.data.views import read_views


class Window(typing.NamedTuple):
    """Part of a video: where it starts and ends, in seconds, and its views as `read_views` gives them."""

    start: float
    end: float
    views: np.ndarray


def iterate_windows(path, window, stride=None, num_frames=8, image_size=224, crops=1, sampling="segments"):
    """Slides over a video.

    The video is decoded once, from first to last; only frames that a window is still waiting for are
    kept. Seconds become frames by the mean frame rate.

    Args:
        path: video file.
        window: length in seconds; a shorter video is one window.
        stride: seconds from the start of one window to that of the next, at most `window`, so that no
            moment is left out; half of it where it is `None`. The last window ends with the video.
        num_frames, image_size, crops, sampling: of the one clip that a window is, see `read_views`.

    Returns:
        Iterator of `Window`.

    Raises:
        VideoError: the file cannot be read or does not say its frame rate; while iterating, once what
            is damaged is reached.
        ValueError: another argument is not as above.
    """
    window = _positive_seconds("window", window)
    stride = window / 2 if stride is None else _positive_seconds("stride", stride)
    if stride > window:
        raise ArgumentError(
            "stride", stride, f"must be at most `window`, {window}, as moments would be left out"
        )
    info = frames.probe(path)
    if info.frame_rate is None:
        raise VideoError(
            path, "unreadable", "does not say how many frames a second it has, which windows depend on"
        )
    starts, length = place_windows(info.num_frames, info.frame_rate, window, stride)
    indices = segments.clip_indices(length, num_frames, sampling)
    check_size(path, len(indices), info.height, info.width)
    return _iterate(path, starts, length, info.frame_rate, indices, image_size, crops)


def place_windows(total_frames, frame_rate, window, stride):
    """Which frames windows begin with, and how many each has.

    Args:
        total_frames: frames in the video.
        frame_rate: frames a second.
        window, stride: seconds.

    Returns:
        List of 0-based frames, ascending, the first 0, and the number of frames of a window.
    """
    length = min(max(round(window * frame_rate), 1), total_frames)
    # Rounding may make a window shorter than the stride, which must not leave a frame out.
    step = min(max(stride * frame_rate, 1), length)
    last = total_frames - length
    # Rounded one by one, so that the error does not grow with the video.
    starts = {min(round(i * step), last) for i in range(math.ceil(last / step))}
    return sorted(starts | {last}), length


def _iterate(path, starts, length, frame_rate, indices, image_size, crops):
    # How often a window takes its frame of this place: a clip that is longer repeats some.
    repeats = np.bincount(indices, minlength=length)
    upcoming = collections.deque(starts)
    # Windows that lack frames, in the order in which they will be complete.
    waiting = collections.deque()
    for number, frame in enumerate(iterate_frames(path)):
        if upcoming and upcoming[0] == number:
            waiting.append((upcoming.popleft(), []))
        for start, kept in waiting:
            kept.extend([frame] * repeats[number - start])
        if waiting and len(waiting[0][1]) == len(indices):
            start, kept = waiting.popleft()
            if any(other.shape != kept[0].shape for other in kept):
                raise VideoError(path, "unreadable", "its frames change their size")
            # Of as many frames as the clip has, the middle ones of its segments are all.
            views = read_views(np.stack(kept), len(kept), image_size, crops=crops)
            yield Window(start / frame_rate, (start + length) / frame_rate, views)


def _positive_seconds(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise ArgumentError(name, value, "must be a positive number of seconds")
    return value
