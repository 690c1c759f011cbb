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


def first_time(path):
    """Returns when the first frame is shown, in seconds from the first frame of its file."""
    return fragment.first_time(path) if fragment.parse(path) else 0.0


def _reader(path):
    # The whole ending must match, because names of other files may contain "#".
    if re.search(r"\.tfrecord#\d+$", os.fspath(path)):
        return shards
    if os.path.isdir(path):
        return frame_folder
    return fragment if fragment.parse(path) else video
