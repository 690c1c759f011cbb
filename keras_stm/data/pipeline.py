"""Records -> tf.data of (clip, label), and one file -> a clip."""

import numpy as np

from keras_stm.arguments import positive_int
from keras_stm.data import augment
from keras_stm.data.segments import center_indices, train_indices
from keras_stm.data.video import read_frames


def load_clip(path, num_frames=8, image_size=224):
    """A video file as a model takes it, by the paper's efficient test protocol (section 4.6).

    The middle frames of `num_frames` equal segments, short side scaled to `image_size` * 256 / 224,
    centre crop, normalised as `keras_stm.preprocess_input` does.

    Args:
        path: video file.
        num_frames: frames in the clip; a shorter video repeats its own.
        image_size: height and width of the clip in pixels.

    Returns:
        float32 array `(1, num_frames, image_size, image_size, 3)`.

    Raises:
        VideoError: the file cannot be read.
        ValueError: an argument is not a positive integer.
    """
    from keras import ops

    positive_int("num_frames", num_frames)
    positive_int("image_size", image_size)
    clip = read_frames(path, lambda total_frames: center_indices(total_frames, num_frames))
    shape = augment.short_side_shape(*clip.shape[1:3], augment.resize_size(image_size))
    # Not through tf.image, so that predicting needs no TensorFlow under the other backends.
    clip = ops.image.resize(
        ops.convert_to_tensor(clip, "float32"),
        shape,
        interpolation="bilinear",
        antialias=True,
        data_format="channels_last",
    )
    clip = augment.center_crop(ops.convert_to_numpy(clip), image_size)
    return augment.normalize(clip)[np.newaxis]


def make_pipeline(
    dataset,
    *,
    batch_size,
    num_frames=8,
    image_size=224,
    training=False,
    seed=0,
    initial_epoch=0,
    epochs=1,
):
    """Batches of clips and labels for `fit`, `evaluate` or `predict`, under every backend.

    In training one pipeline covers the epochs from `initial_epoch` up to, not including, `epochs`;
    give `fit` the same two numbers and `steps_per_epoch=steps_per_epoch(dataset, batch_size)`.
    Order, frames and crops depend on (`seed`, epoch, position in the epoch) alone, so that a run
    that stopped goes on with the batches it would have seen.

    Args:
        dataset: what `open_dataset` returns.
        batch_size: clips in a batch.
        num_frames: frames in a clip, one from each of as many equal segments of its video.
        image_size: height and width of a clip in pixels, cropped from a short side of
            `image_size` * 256 / 224.
        training: if true, videos are shuffled in each epoch, frames and crops are random and the
            epoch's last, smaller batch is dropped. If false, all videos come once and in order,
            with the middle frame of each segment and the centre crop.
        seed: integer of at least 0 that all random choices depend on.
        initial_epoch: the first epoch, from 0; training only.
        epochs: the epoch to stop before; training only.

    Returns:
        `tf.data.Dataset` of clips `(batch, num_frames, image_size, image_size, 3)` in float32,
        normalised as `keras_stm.preprocess_input` does, and labels `(batch,)` in int32. A file that
        cannot be read stops it with an error that names the file.

    Raises:
        ValueError: an argument is not as above, or a training batch is larger than the data set.
    """
    import tensorflow as tf

    positive_int("num_frames", num_frames)
    resize_size = augment.resize_size(positive_int("image_size", image_size))
    if not training and (initial_epoch, epochs) != (0, 1):
        raise ValueError(
            "`initial_epoch` and `epochs` must be 0 and 1 without `training`. "
            f"Received: initial_epoch={initial_epoch!r}, epochs={epochs!r}"
        )
    if not 0 <= initial_epoch < epochs:
        raise ValueError(
            "`initial_epoch` must be at least 0 and less than `epochs`. "
            f"Received: initial_epoch={initial_epoch!r}, epochs={epochs!r}"
        )
    total = len(dataset.records)
    if training:
        epoch_length = steps_per_epoch(dataset, batch_size) * batch_size
    else:
        positive_int("batch_size", batch_size)
        epoch_length = total
    labels = tf.constant([label for _, label in dataset.records], tf.int32)

    def read(record, epoch, position):
        rng = np.random.default_rng((seed, epoch, position))

        def choose(total_frames):
            if training:
                return train_indices(total_frames, num_frames, rng)
            return center_indices(total_frames, num_frames)

        return read_frames(dataset.records[record][0], choose)

    def load(step):
        epoch, position = step // epoch_length, step % epoch_length
        record = position
        if training:
            record = tf.random.experimental.index_shuffle(position, [seed, epoch], total - 1)
        clip = tf.numpy_function(read, (record, epoch, position), tf.uint8)
        clip.set_shape((num_frames, None, None, 3))
        clip = augment.resize_short_side(clip, resize_size)
        if training:
            crop_seed = tf.random.fold_in([seed, epoch], position)
            clip = augment.random_crop(clip, image_size, crop_seed)
        else:
            clip = augment.center_crop(clip, image_size)
        clip.set_shape((num_frames, image_size, image_size, 3))
        return augment.normalize(clip), labels[record]

    steps = tf.data.Dataset.range(initial_epoch * epoch_length, epochs * epoch_length)
    clips = steps.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return clips.batch(batch_size, drop_remainder=training).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(dataset, batch_size):
    """Training batches in one epoch of `make_pipeline`; the last, smaller one is dropped.

    Raises:
        ValueError: `batch_size` is larger than the data set, or no positive integer.
    """
    steps = len(dataset.records) // positive_int("batch_size", batch_size)
    if not steps:
        raise ValueError(
            f"`batch_size` must be at most {len(dataset.records)}, the number of videos. "
            f"Received: batch_size={batch_size!r}"
        )
    return steps
