"""Reads frames of any record: a video file, a folder of frames, or a clip in a packed shard.

Each function calls its namesake in `video`, `frame_folder` or `shards`, depending on the path.
"""

import os
import re

from keras_stm.data import frame_folder, shards, video


def count_frames(path):
    """Returns the number of frames; see `video.count_frames`."""
    return _reader(path).count_frames(path)


def read_frames(path, indices):
    """Returns a uint8 array `(len(indices), height, width, 3)`, RGB; see `video.read_frames`."""
    return _reader(path).read_frames(path, indices)


def probe(path):
    """Returns a `VideoInfo`; see `video.probe`."""
    return _reader(path).probe(path)


def _reader(path):
    # The whole ending must match, because names of other files may contain "#".
    if re.search(r"\.tfrecord#\d+$", os.fspath(path)):
        return shards
    return frame_folder if os.path.isdir(path) else video
