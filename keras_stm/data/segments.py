"""Which frames of a video make a clip: one of each of T equal segments (paper, section 4.2), or dense."""

import numpy as np

from keras_stm import preprocessing
from keras_stm.arguments import positive_int
from keras_stm.preprocessing import SAMPLING as SAMPLING


def center_indices(total_frames, segments):
    """The middle frame of each segment; a video shorter than that repeats its frames evenly.

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
    """One random frame of each segment; `center_indices` where there are more segments than frames.

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
    """Several clips, each as `train_indices` draws one: the temporal samples of the paper's test.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in a clip, at least 1.
        clips: how many, at least 1; the paper's test takes 10.
        rng: `np.random.Generator`.

    Returns:
        int64 array `(clips, segments)`.

    Raises:
        ValueError: a count is not a positive integer.
    """
    clips = positive_int("clips", clips)
    return np.stack([train_indices(total_frames, segments, rng) for _ in range(clips)])


def dense_indices(total_frames, segments, rng=None):
    """Frames at equal distances within a window of 64 frames, as TSM samples Kinetics.

    In a shorter video the window is all of it. Where there are more segments than frames these are
    `center_indices`, as everywhere here; TSM starts again at the first frame.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in the clip, at least 1; above 64 they are consecutive.
        rng: `np.random.Generator` that places the window; in the middle where it is `None`.

    Returns:
        int64 array `(segments,)`, 0-based and ascending.

    Raises:
        ValueError: a count is not a positive integer.
    """
    indices, last_start = _first_window(total_frames, segments)
    return indices + (last_start // 2 if rng is None else rng.integers(last_start + 1))


def dense_clips(total_frames, segments, clips):
    """Several clips, each as `dense_indices` takes one, their windows evenly from first to last.

    Args:
        total_frames: frames in the video, at least 1.
        segments: frames in a clip, at least 1.
        clips: how many, at least 1; TSM's test takes 10.

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
    """The frames of one clip: random ones where `rng` is given, those in the middle where it is `None`.

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
    """The dense clip at the start of a video, and the last frame at which its window may start."""
    centers = center_indices(total_frames, segments)
    if total_frames < segments:
        return centers, 0
    window = preprocessing.dense_window(total_frames, segments)
    return np.arange(segments) * (window // segments), total_frames - window
