"""Reads videos one after the other as streams of frames, at the rate of a model's training clips."""

import functools
import os

import numpy as np

from keras_stm.arguments import positive_int, positive_number
from keras_stm.data.frames import probe
from keras_stm.data.left_out import LeftOut
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError
from keras_stm.data.views import read_views
from keras_stm.preprocessing import dense_window

# Usual number of streams in an evaluation.
STREAMS = 8
# Largest number of clips whose length is looked up.
_LOOKED_INTO = 1000


def typical_rate(dataset, num_frames, sampling, workers=None):
    """Returns how many frames a second the clips of a data set have: `num_frames` over their median length.

    A clip of `sampling` `"segments"` is as long as its video; one of `"dense"` is as long as its window.

    Args:
        dataset: `Dataset` from `open_dataset`.
        num_frames: frames in a clip.
        sampling: see `keras_stm.data.make_pipeline`.
        workers: videos read in parallel. `None` is the number of processors.

    Returns:
        A float, or `None` if no video has a known length, as with folders of frames and packed clips.
    """
    paths = [path for path, _ in dataset.records]
    paths = paths[:: -(-len(paths) // _LOOKED_INTO)]
    length = functools.partial(_clip_seconds, num_frames, sampling)
    found = [seconds for seconds in in_order(length, paths, workers or os.cpu_count()) if seconds]
    return num_frames / float(np.median(found)) if found else None


def _clip_seconds(num_frames, sampling, path):
    try:
        info = probe(path)
    except VideoError:
        return None
    if sampling == "dense" and info.seconds and info.num_frames >= num_frames:
        distance = dense_window(info.num_frames, num_frames) // num_frames
        return info.seconds * num_frames * distance / info.num_frames
    return info.seconds


def make_streams(
    dataset,
    streams=8,
    *,
    num_frames=8,
    image_size=224,
    rate=None,
    seed=0,
    workers=None,
    left_out=None,
):
    """Returns streams of the videos of a data set, for `keras_stm.stream_evaluation.evaluate_streams`.

    Each video is in one stream. The videos are in a random order, so that neighbours are unrelated. A video
    has the centre crops of its frames at `rate`, preprocessed like in `read_views`.

    Args:
        dataset: `Dataset` from `open_dataset`.
        streams: number of streams. There are fewer if a stream would have less than two videos.
        num_frames: frames of a video whose length in seconds is not known, or of all if `rate` is `None`.
        image_size: height and width of a frame in pixels.
        rate: frames a second, or `None`.
        seed: integer of at least 0 that the order depends on.
        workers: videos read in parallel, at least one for each stream. `None` is the number of processors.
        left_out: `LeftOut` that records unreadable videos; `None` is a new one.

    Returns:
        List of iterables of `(path, label, frames)`, which skip unreadable videos. `frames` is float32
        `(T, image_size, image_size, 3)`.

    Raises:
        ValueError: an argument is invalid; or, during iteration, `left_out` raises.
    """
    streams = positive_int("streams", streams)
    positive_int("num_frames", num_frames)
    positive_int("image_size", image_size)
    if rate is not None:
        positive_number("rate", rate)
    workers = positive_int("workers", os.cpu_count() if workers is None else workers)
    left_out = left_out or LeftOut(len(dataset.records))
    streams = max(min(streams, len(dataset.records) // 2), 1)
    order = np.random.default_rng(seed).permutation(len(dataset.records))

    def read(index):
        path, label = dataset.records[index]
        try:
            info = probe(path)
            dataset.check_num_frames(path, info.num_frames)
            count = max(round(info.seconds * rate), 1) if rate and info.seconds else num_frames
            return path, label, read_views(path, count, image_size)[0]
        except VideoError as error:
            left_out.add(path, error)
            return None

    def play(indices):
        return filter(None, in_order(read, indices, max(workers // streams, 1)))

    return [play(indices) for indices in np.array_split(order, streams)]
