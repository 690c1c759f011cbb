"""Frames of any record: a video file, a folder of frames, or a clip in a packed shard.

Each function is that of `video`, `frame_folder` or `shards`, whichever the path says.
"""

import os
import re

from keras_stm.data import frame_folder, shards, video


def count_frames(path):
    """Number of frames; see `video.count_frames`."""
    return _reader(path).count_frames(path)


def read_frames(path, indices):
    """uint8 array `(len(indices), height, width, 3)`, RGB; see `video.read_frames`."""
    return _reader(path).read_frames(path, indices)


def probe(path):
    """`VideoInfo`; see `video.probe`."""
    return _reader(path).probe(path)


def _reader(path):
    # Not any "#", which file names may hold.
    if re.search(r"\.tfrecord#\d+$", os.fspath(path)):
        return shards
    return frame_folder if os.path.isdir(path) else video
