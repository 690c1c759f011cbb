"""Reads frames of any record: a video file, a part of one, a folder of frames, or a clip in a packed shard.

Each function calls its namesake in `video`, `fragment`, `frame_folder` or `shards`, depending on the path.
"""

import os
import re

from keras_stm.data import fragment, frame_folder, shards, video


def count_frames(path):
    """Returns the number of frames; see `video.count_frames`."""
    return _reader(path).count_frames(path)


def read_frames(path, indices):
    """Returns a uint8 array `(len(indices), height, width, 3)`, RGB; see `video.read_frames`."""
    return _reader(path).read_frames(path, indices)


def probe(path):
    """Returns a `VideoInfo`; see `video.probe`."""
    return _reader(path).probe(path)


def iterate_frames(path):
    """Yields every frame of a video file or of a part of one; see `video.iterate_frames`."""
    return _reader(path).iterate_frames(path)


def file_of(path):
    """Returns the path of the video if `path` is a part of one, and `path` otherwise."""
    part = fragment.parse(path)
    return part.file if part else path


def frame_times(path):
    """Returns when each frame of a video file, or of a part of one, is shown.

    Returns:
        int64 array of microseconds from the first frame of the file, ascending.
    """
    return fragment.times_of_part(path) if fragment.parse(path) else fragment.frame_times(path)


def _reader(path):
    # The whole ending must match, because names of other files may contain "#".
    if re.search(r"\.tfrecord#\d+$", os.fspath(path)):
        return shards
    if os.path.isdir(path):
        return frame_folder
    fragment.check_name(path)
    return fragment if fragment.parse(path) else video
