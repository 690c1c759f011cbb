"""The clips of reproduce.py: the embedded data set's harder variant as arrays, and batches of them.

No TensorFlow and no files, so that every backend trains on the same numbers.
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
# Frames of a clip, of which a model sees 4, 8 or 16: at least two in every segment.
CLIP_FRAMES = 32
SPLITS = ("train", "validation", "test", "stills")
_REVERSED = np.array([CLASS_NAMES.index(arrow_of_time.REVERSED[name]) for name in CLASS_NAMES])


class Clips(typing.NamedTuple):
    """Clips in memory.

    `frames` uint8 `(N, F, S, S, 3)` RGB; `motion` `(N,)`, indices into `CLASS_NAMES`;
    `appearance` `(N,)`, indices into `SHAPES`.
    """

    frames: np.ndarray
    motion: np.ndarray
    appearance: np.ndarray


def make_clips(split, count, image_size, hard=True, num_frames=CLIP_FRAMES):
    """The first `count` clips of a split, somewhat larger than crops of `image_size` pixels.

    No two splits share a seed. The same clips at another size show the same, drawn finer or coarser.
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
    """Shuffled batches without end: one random frame of each segment, and a random crop for all frames.

    What an epoch holds depends on `seed` and its number alone. Clips left over at its end are left out.
    A generator, as Keras starts a `PyDataset` twice in every epoch under TensorFlow, which takes as long as
    to train on it.

    Args:
        clips_of_epochs: list of `Clips`, one for each epoch; the last one is for all after it.
        num_frames, image_size: of what the model sees.
        batch_size: clips in a batch.
        seed: integer of at least 0.
        difference: whether to add a fourth channel, see `prepare`.
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
    """Every clip and, behind it, the same frames in opposite order: centre frames, centre crop.

    Arguments as of `training_batches`.
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
    """`{"motion", "appearance"}`, each `(2 N,)`: the labels of every clip and, behind it, its reversal."""
    return {
        "motion": np.stack([clips.motion, _REVERSED[clips.motion]], axis=1).ravel(),
        "appearance": np.repeat(clips.appearance, 2),
    }


def prepare(frames, difference):
    """What a model sees of frames, uint8 `(N, T, H, W, 3)`: float32, normalised.

    With `difference` a fourth channel holds the brightness of the next frame minus that of this one, 0 in
    the last: what CMM computes of features, computed of pixels.
    """
    clips = augment.normalize(frames.astype("float32"))
    if not difference:
        return clips
    brightness = clips.mean(axis=-1, keepdims=True)
    change = np.zeros_like(brightness)
    change[:, :-1] = brightness[:, 1:] - brightness[:, :-1]
    return np.concatenate([clips, change], axis=-1)
