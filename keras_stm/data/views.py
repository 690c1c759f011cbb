"""Reads videos as test clips for a model, by the protocols of the paper (sections 4.2 and 4.6)."""

import functools
import numbers
import os

import numpy as np

from keras_stm.arguments import ArgumentError, one_of, positive_int
from keras_stm.data import augment, resizing, segments
from keras_stm.data.frames import count_frames, read_frames
from keras_stm.data.left_out import LeftOut
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError

# Clips per video, and crops per clip.
PROTOCOLS = {"efficient": (1, 1), "paper": (10, 3)}
CROPS = (1, 3)
# Orders of the frames in a clip. The paper's Fig. 4 asks how much of the accuracy the right order brings.
FRAMES = ("ordered", "reversed", "shuffled", "still")


def load_clip(path, num_frames=8, image_size=224):
    """Loads a video for a model, by the paper's efficient test protocol (section 4.6).

    The clip has the middle frames of `num_frames` equal segments. The short side is scaled to
    `image_size` * 256 / 224, and the centre is cropped. The pixels are normalised like in
    `keras_stm.preprocess_input`.

    Args:
        path: video file, or folder of its frames.
        num_frames: frames in the clip; a shorter video repeats its frames.
        image_size: height and width of the clip in pixels.

    Returns:
        float32 array `(1, num_frames, image_size, image_size, 3)`.

    Raises:
        VideoError: the file is unreadable.
        ValueError: an argument is not a positive integer.
    """
    return read_views(path, num_frames, image_size)


def read_views(source, num_frames=8, image_size=224, clips=1, crops=1, sampling="segments", rng=None):
    """Returns the preprocessed views of one video.

    Args:
        source: video file, folder of its frames, or its frames as a uint8 array
            `(F, H, W, 3)`, RGB.
        num_frames: frames in a clip; a shorter video repeats its frames.
        image_size: height and width of a clip in pixels.
        clips: number of views over time. 1 uses the middle frame of each segment. More use one random
            frame of each segment.
        crops: number of views in space. 1 is the centre, after scaling the short side to
            `image_size` * 256 / 224. 3 are squares of the whole short side, at both ends and in the
            middle of the long side, resized.
        sampling: `"segments"` of the whole video, or `"dense"`: frames of a window of 64 frames in the
            middle, or of `clips` such windows evenly from first to last.
        rng: `np.random.Generator` for the random frames. `None` is a new one with seed 0.

    Returns:
        float32 array `(clips * crops, num_frames, image_size, image_size, 3)`, with all crops of the
        first clip first.

    Raises:
        VideoError: the file is unreadable.
        ValueError: another argument is invalid.
    """
    positive_int("num_frames", num_frames)
    positive_int("image_size", image_size)
    positive_int("clips", clips)
    one_of("crops", crops, CROPS)
    one_of("sampling", sampling, segments.SAMPLING)

    # The result is cached, because some files are read twice: a second draw would choose other frames.
    @functools.cache
    def choose(total_frames):
        if clips == 1:
            return segments.clip_indices(total_frames, num_frames, sampling)
        if sampling == "dense":
            return segments.dense_clips(total_frames, num_frames, clips).ravel()
        generator = np.random.default_rng(0) if rng is None else rng
        return segments.random_clips(total_frames, num_frames, clips, generator).ravel()

    if isinstance(source, np.ndarray):
        frames = _check_frames(source)[choose(len(source))]
    else:
        frames = read_frames(source, choose)
    # Clips are preprocessed one by one, because all frames as floats may be larger than the memory.
    return np.stack([view for clip in np.split(frames, clips) for view in _prepare(clip, image_size, crops)])


def make_views(
    dataset,
    protocol="efficient",
    *,
    clips=None,
    crops=None,
    num_frames=8,
    image_size=224,
    sampling="segments",
    frames="ordered",
    seed=0,
    workers=None,
    left_out=None,
):
    """Returns an iterable of the views of each video, for `keras_stm.evaluation.evaluate`.

    Args:
        dataset: `Dataset` from `open_dataset`.
        protocol: `"efficient"` is one view, the middle frames and the centre crop (section 4.6);
            `"paper"` is 10 random clips of 3 crops (section 4.2).
        clips: overrides the protocol's number of clips; see `read_views`.
        crops: overrides the protocol's number of crops; see `read_views`.
        num_frames: frames in a clip; see `read_views`.
        image_size: height and width of a clip in pixels.
        sampling: `"segments"` or `"dense"`; see `read_views`.
        frames: `"ordered"`, or a change of the frames of each clip: `"reversed"`, `"shuffled"`, or
            `"still"`, which repeats the middle frame.
        seed: integer of at least 0. The random frames and shuffles depend on it, and on the index of
            the video in the data set.
        workers: videos read in parallel. Up to twice as many are in memory. `None` is the number of
            processors.
        left_out: `LeftOut` that records unreadable videos; `None` is a new one.

    Returns:
        `Views`, an iterable of `(path, label, clips)` that skips unreadable videos. `clips` is float32
        `(views, num_frames, image_size, image_size, 3)`. Each iteration yields the same.

    Raises:
        ValueError: an argument is invalid; or, during iteration, `left_out` raises.
    """
    one_of("protocol", protocol, tuple(PROTOCOLS))
    one_of("frames", frames, FRAMES)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ArgumentError("seed", seed, "must be an integer of at least 0")
    default_clips, default_crops = PROTOCOLS[protocol]
    options = {
        "num_frames": positive_int("num_frames", num_frames),
        "image_size": positive_int("image_size", image_size),
        "clips": positive_int("clips", default_clips if clips is None else clips),
        "crops": one_of("crops", default_crops if crops is None else crops, CROPS),
        "sampling": one_of("sampling", sampling, segments.SAMPLING),
    }
    workers = positive_int("workers", os.cpu_count() if workers is None else workers)
    return Views(dataset, options, frames, seed, workers, left_out or LeftOut(len(dataset.records)))


class Views:
    """Iterable of the views of each video, which `make_views` returns.

    Attributes:
        dataset: the `Dataset`.
        options: dictionary of the arguments of `read_views`.
        left_out: `LeftOut` of the unreadable videos.
    """

    def __init__(self, dataset, options, frames, seed, workers, left_out):
        self.dataset = dataset
        self.options = options
        self.left_out = left_out
        self._frames = frames
        self._seed = seed
        self._workers = workers

    def __len__(self):
        """Returns the number of videos, including unreadable ones."""
        return len(self.dataset.records)

    def __iter__(self):
        found = in_order(self._read, range(len(self)), self._workers)
        for (path, label), views in zip(self.dataset.records, found, strict=True):
            if views is not None:
                yield path, label, views

    def _read(self, index):
        path, _ = self.dataset.records[index]
        rng = np.random.default_rng((self._seed, index))
        try:
            if path in self.dataset.stated_frames:
                self.dataset.check_num_frames(path, count_frames(path))
            views = read_views(path, **self.options, rng=rng)
        except VideoError as error:
            self.left_out.add(path, error)
            return None
        return _reorder(views, self._frames, rng)


def _reorder(views, frames, rng):
    """Returns the views with their frames in another order; see `make_views`."""
    if frames == "reversed":
        # The copy is for PyTorch, which rejects arrays with negative strides.
        return views[:, ::-1].copy()
    if frames == "shuffled":
        return np.stack([rng.permutation(view) for view in views])
    if frames == "still":
        middle = views.shape[1] // 2
        return np.repeat(views[:, middle : middle + 1], views.shape[1], axis=1)
    return views


def _check_frames(frames):
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ArgumentError(
            "source",
            frames,
            "must be uint8 frames (F, H, W, 3), at least one",
            f"source of {frames.dtype} {frames.shape}",
        )
    return frames


def _prepare(clip, image_size, crops):
    """Returns the crops of a uint8 clip `(T, H, W, 3)`, each `(T, image_size, image_size, 3)`, normalised."""
    size = augment.resize_size(image_size)
    shape = augment.short_side_shape(*clip.shape[1:3], size)
    if crops == 1:
        box = augment.center_box(*shape, image_size)
        return [augment.normalize(resizing.resize(clip, *shape, box))]
    clip = resizing.resize(clip, *shape)
    return [
        augment.normalize(
            resizing.resize(clip[:, top : top + side, left : left + side], image_size, image_size)
        )
        for top, left, side, _ in augment.three_boxes(*shape, size)
    ]
