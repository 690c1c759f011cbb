"""Chooses the frames of a video that make a clip.

A clip has one frame of each of T equal segments (paper, section 4.2), or dense frames.
"""

import numpy as np

from keras_stm import preprocessing
from keras_stm.arguments import positive_int
from keras_stm.preprocessing import SAMPLING as SAMPLING


def center_indices(total_frames, segments):
    """Returns the middle frame of each segment; a video with fewer frames repeats them evenly.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in the clip, at least 1.

    Returns:
        int64 array `(segments,)`, 0-based and ascending.

    Raises:
        ValueError: an argument is not a positive integer.
    """
    total_frames = positive_int("total_frames", total_frames)
    segments = positive_int("segments", segments)
    return preprocessing.center_indices(total_frames, segments)


def train_indices(total_frames, segments, rng):
    """Returns one random frame of each segment.

    If there are more segments than frames, the result is that of `center_indices`.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in the clip, at least 1.
        rng: `np.random.Generator`.

    Returns:
        int64 array `(segments,)`, 0-based and ascending.

    Raises:
        ValueError: a count is not a positive integer.
    """
    indices = center_indices(total_frames, segments)
    length = total_frames // segments
    if length == 0:
        return indices
    return np.arange(segments) * length + rng.integers(length, size=segments)


def random_clips(total_frames, segments, clips, rng):
    """Draws several clips with `train_indices`: the temporal samples of the paper's test.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in a clip, at least 1.
        clips: number of clips, at least 1. The paper's test uses 10.
        rng: `np.random.Generator`.

    Returns:
        int64 array `(clips, segments)`.

    Raises:
        ValueError: a count is not a positive integer.
    """
    clips = positive_int("clips", clips)
    return np.stack([train_indices(total_frames, segments, rng) for _ in range(clips)])


def dense_indices(total_frames, segments, rng=None):
    """Returns frames at equal distances in a window of 64 frames, like TSM samples Kinetics.

    In a shorter video, the window is the whole video. If there are more segments than frames, the
    result is that of `center_indices`; TSM starts again at the first frame instead.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in the clip, at least 1. If there are more than 64, they are consecutive.
        rng: `np.random.Generator` that places the window. `None` places it in the middle.

    Returns:
        int64 array `(segments,)`, 0-based and ascending.

    Raises:
        ValueError: a count is not a positive integer.
    """
    indices, last_start = _first_window(total_frames, segments)
    return indices + (last_start // 2 if rng is None else rng.integers(last_start + 1))


def dense_clips(total_frames, segments, clips):
    """Returns several clips like those of `dense_indices`, with windows evenly from first to last.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in a clip, at least 1.
        clips: number of clips, at least 1. TSM's test uses 10.

    Returns:
        int64 array `(clips, segments)`.

    Raises:
        ValueError: an argument is not a positive integer.
    """
    indices, last_start = _first_window(total_frames, segments)
    clips = positive_int("clips", clips)
    starts = np.arange(clips) * last_start // max(clips - 1, 1)
    return starts[:, np.newaxis] + indices


def clip_indices(total_frames, segments, sampling, rng=None):
    """Returns the frames of one clip: random ones if `rng` is given, and the middle ones if it is `None`.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in the clip, at least 1.
        sampling: `"segments"`, see `center_indices` and `train_indices`, or `"dense"`, see
            `dense_indices`.
        rng: `np.random.Generator` or `None`.

    Returns:
        int64 array `(segments,)`, 0-based and ascending.

    Raises:
        ValueError: a count is not a positive integer.
    """
    if sampling == "dense":
        return dense_indices(total_frames, segments, rng)
    if rng is None:
        return center_indices(total_frames, segments)
    return train_indices(total_frames, segments, rng)


def _first_window(total_frames, segments):
    """Returns the dense clip at the start of a video, and the last frame at which its window may start."""
    centers = center_indices(total_frames, segments)
    if total_frames < segments:
        return centers, 0
    window = preprocessing.dense_window(total_frames, segments)
    return np.arange(segments) * (window // segments), total_frames - window
