"""The clips of reproduce.py: the embedded data set's harder variant as arrays, and batches of them.

The clips need neither TensorFlow nor files, so every backend trains on the same numbers.
"""

import concurrent.futures
import itertools
import os
import typing

import keras
import numpy as np

from keras_stm.data import arrow_of_time, augment, segments

CLASS_NAMES = arrow_of_time.CLASS_NAMES
SHAPES = arrow_of_time.SHAPES
# Frames of a clip. A model sees 4, 8 or 16 of them, so that every segment has at least two.
CLIP_FRAMES = 32
SPLITS = ("train", "validation", "test", "stills")
_REVERSED = np.array([CLASS_NAMES.index(arrow_of_time.REVERSED[name]) for name in CLASS_NAMES])


class Clips(typing.NamedTuple):
    """Clips in memory.

    Attributes:
        frames: uint8 `(N, F, S, S, 3)`, RGB.
        motion: `(N,)`, indices into `CLASS_NAMES`.
        appearance: `(N,)`, indices into `SHAPES`.
    """

    frames: np.ndarray
    motion: np.ndarray
    appearance: np.ndarray


def make_clips(split, count, image_size, hard=True, num_frames=CLIP_FRAMES):
    """Returns the first `count` clips of a split, somewhat larger than crops of `image_size` pixels.

    No two splits share a seed. At another size the same clips show the same scenes, drawn finer or coarser.

    Args:
        split: one of `SPLITS`.
        count: number of clips.
        image_size: height and width of the crops in pixels.
        hard: see `arrow_of_time.make_clip`.
        num_frames: frames in a clip.

    Returns:
        `Clips`.
    """
    names = np.arange(count) % len(CLASS_NAMES)
    size = augment.resize_size(image_size)

    def make(i):
        clip_seed = (SPLITS.index(split), i)
        return arrow_of_time.make_clip(CLASS_NAMES[names[i]], clip_seed, hard, num_frames, size)

    frames = np.empty((count, num_frames, size, size, 3), "uint8")
    appearance = np.empty(count, "int64")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, clip in enumerate(pool.map(make, range(count))):
            frames[i] = clip.frames
            appearance[i] = SHAPES.index(clip.shape)
    return Clips(frames, names, appearance)


def training_batches(clips_of_epochs, num_frames, image_size, batch_size, seed, difference=False):
    """Yields shuffled batches without end: a random frame of each segment, and a random crop for all frames.

    An epoch's batches depend only on `clips_of_epochs`, `seed` and the number of the epoch. Remaining clips
    that do not fill a batch are skipped.

    This is a generator because of Keras under TensorFlow. It starts a `PyDataset` twice in every epoch, which
    takes as long as the training.

    Args:
        clips_of_epochs: list of `Clips`, one for each epoch; later epochs use the last.
        num_frames: frames that the model sees.
        image_size: height and width of the crop in pixels.
        batch_size: clips in a batch.
        seed: integer of at least 0.
        difference: whether to add a fourth channel, see `prepare`.

    Yields:
        Preprocessed clips and `{"motion", "appearance"}`, their labels.
    """
    for epoch in itertools.count():
        clips = clips_of_epochs[min(epoch, len(clips_of_epochs) - 1)]
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(clips.motion))
        space = clips.frames.shape[2] - image_size + 1
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            batch = []
            for clip in clips.frames[chosen]:
                indices = segments.train_indices(len(clip), num_frames, rng)
                top, left = rng.integers(space, size=2)
                batch.append(clip[indices, top : top + image_size, left : left + image_size])
            labels = {"motion": clips.motion[chosen], "appearance": clips.appearance[chosen]}
            yield prepare(np.stack(batch), difference), labels


class EvaluationBatches(keras.utils.PyDataset):
    """Batches of every clip and, after it, the same frames in reverse order: centre frames, centre crop.

    Args:
        clips: `Clips`.
        num_frames, image_size, difference: see `training_batches`.
        batch_size: clips in a batch, with their reversals; an odd number is rounded down.
    """

    def __init__(self, clips, num_frames, image_size, batch_size, difference=False):
        super().__init__()
        self.clips = clips
        self.num_frames = num_frames
        self.image_size = image_size
        self.batch_size = batch_size
        self.difference = difference
        self.labels = with_reversed(clips)

    def __len__(self):
        return -(-len(self.clips.motion) // (self.batch_size // 2))

    def __getitem__(self, index):
        pairs = self.batch_size // 2
        chosen = slice(index * pairs, (index + 1) * pairs)
        indices = segments.center_indices(self.clips.frames.shape[1], self.num_frames)
        frames = self.clips.frames[chosen][:, indices]
        top, left, _, _ = augment.center_box(*frames.shape[2:4], self.image_size)
        frames = frames[:, :, top : top + self.image_size, left : left + self.image_size]
        both = np.stack([frames, frames[:, ::-1]], axis=1).reshape(-1, *frames.shape[1:])
        rows = slice(2 * chosen.start, 2 * chosen.stop)
        labels = {name: values[rows] for name, values in self.labels.items()}
        return prepare(both, self.difference), labels


def with_reversed(clips):
    """Returns `{"motion", "appearance"}`, each `(2 N,)`: labels of every clip and, after it, its reversal."""
    return {
        "motion": np.stack([clips.motion, _REVERSED[clips.motion]], axis=1).ravel(),
        "appearance": np.repeat(clips.appearance, 2),
    }


def prepare(frames, difference):
    """Preprocesses frames, uint8 `(N, T, H, W, 3)`, for a model, and returns them normalised as float32.

    With `difference`, a fourth channel holds the brightness of the next frame minus that of this frame. It is
    0 in the last frame. CMM computes such a difference from features, and this channel from pixels.
    """
    clips = augment.normalize(frames.astype("float32"))
    if not difference:
        return clips
    brightness = clips.mean(axis=-1, keepdims=True)
    change = np.zeros_like(brightness)
    change[:, :-1] = brightness[:, 1:] - brightness[:, :-1]
    return np.concatenate([clips, change], axis=-1)
