"""Which frames of a video make a clip: one of each of T equal segments (paper, section 4.2)."""

import numpy as np

from keras_stm.arguments import positive_int


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
    # In integers: the float form of the published codes is off by one for some lengths.
    return (2 * np.arange(segments) + 1) * total_frames // (2 * segments)


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
