"""Builds `tf.data` pipelines of clips and labels from the records of a data set."""

import itertools
import os

import numpy as np

from keras_stm.arguments import ArgumentError, one_of, positive_int
from keras_stm.data import augment, class_balance, segments
from keras_stm.data.frames import read_frames
from keras_stm.data.left_out import LeftOut
from keras_stm.data.video import VideoError

FLIPS = ("none", "plain", "labels")


def make_pipeline(
    dataset,
    *,
    batch_size,
    num_frames=8,
    image_size=224,
    sampling="segments",
    training=False,
    seed=0,
    initial_epoch=0,
    epochs=1,
    sampling_weights="none",
    scales=(1, 0.875, 0.75, 0.66),
    flip="none",
    color_jitter=0.0,
    random_erasing=0.0,
    mix_up=0.0,
    cut_mix=0.0,
    one_hot=False,
    history=0,
    steps=None,
    shard=(0, 1),
    workers=None,
    left_out=None,
):
    """Returns batches of clips and labels for `fit`, `evaluate` or `predict`, under every backend.

    In training, one pipeline covers the epochs from `initial_epoch` up to but not including `epochs`.
    Pass `fit` the same two numbers and `steps_per_epoch=steps_per_epoch(dataset, batch_size)`. The
    contents of a batch depend only on the clips, `seed`, the epoch and the step, not on the number of
    workers. A resumed run therefore sees the batches that it would have seen without a stop.

    Unreadable clips are skipped and logged; see `LeftOut`. If a training epoch then lacks clips, it
    uses those of the dropped last batch, and then clips from its start with other frames and crops.

    Args:
        dataset: `Dataset` from `open_dataset`, with known labels.
        batch_size: clips in a batch, over all shards.
        num_frames: frames in a clip, one from each of as many equal segments of its video.
        image_size: height and width of a clip in pixels.
        sampling: `"segments"` of the whole video like in the paper, or `"dense"`: frames of a window
            of 64 frames, at a random place in training and in the middle otherwise.
        training: if true, videos are shuffled in each epoch, frames and crops are random, and the
            smaller last batch of the epoch is dropped, so that all shapes are static. If false, all
            videos come once and in order. Their clips have the middle frame of each segment and the
            middle `image_size` pixels, after scaling the short side to `image_size` * 256 / 224. The
            last batch may be smaller.
        seed: integer of at least 0 that all random choices depend on.
        initial_epoch: first epoch, counted from 0; training only.
        epochs: epoch at which to stop, exclusive; training only.
        sampling_weights: `"none"` shows each video once in an epoch; training only. `"balanced"` shows
            each class equally often, and `"sqrt"` in proportion to the square root of its number of
            videos. An epoch then has as many clips as before, and videos of small classes repeat.
        scales: sides of the random crops relative to the video's short side; training only, like the
            following arguments up to `cut_mix`.
        flip: `"none"`, `"plain"` or `"labels"`. `"plain"` mirrors a random half of the clips.
            `"labels"` does the same, and swaps the label of a mirrored clip if its class has a mirror
            twin, like left and right; see `augment.mirror_labels`.
        color_jitter: strength of random colour changes, from 0 for none to 1.
        random_erasing: share of clips in which a random rectangle is erased, 0 to 1.
        mix_up: alpha of MixUp, 0 for none; needs `one_hot`. Clips are mixed with others of the same
            batch and shard.
        cut_mix: alpha of CutMix, otherwise like `mix_up`.
        one_hot: if true, labels are `(batch, classes)` in float32.
        history: frames of another clip of the same batch and shard that stand in front of each clip, at
            most `num_frames`; training only. They are the last frames of that clip. The label is that of
            the clip alone.
        steps: batches of a training epoch. `None` is all full batches.
        shard: `(index, count)`: the part of every training batch, or otherwise of the videos, that
            this process reads.
        workers: clips read at the same time. `None` is the number of processors.
        left_out: `LeftOut` that records unreadable clips; `None` is a new one.

    Returns:
        `tf.data.Dataset` of clips and labels. Clips are
        `(batch, history + num_frames, image_size, image_size, 3)` in float32, normalised like in
        `keras_stm.preprocess_input`. Labels are `(batch,)` in int32, or `(batch, classes)` if `one_hot`.
        Iteration raises an error when `left_out` does.

    Raises:
        ValueError: an argument is invalid, or a training batch is larger than the data set.
    """
    import tensorflow as tf

    # Imported here: only this function needs Keras.
    from keras_stm.data import keras_augment

    _check_clips(dataset, num_frames, image_size, sampling, flip, scales)
    one_of("sampling_weights", sampling_weights, class_balance.SAMPLING_WEIGHTS)
    _check_epochs(training, initial_epoch, epochs)
    steps = _check_steps(dataset, training, batch_size, steps)
    index, count = _check_shard(shard, batch_size)
    share = batch_size // count
    if (mix_up or cut_mix) and not one_hot:
        raise ArgumentError("one_hot", one_hot, "must be true to mix labels")
    if history:
        if not training:
            raise ArgumentError("history", history, "must be 0 without `training`")
        check_history(history, num_frames, batch_size, count)
    workers = positive_int("workers", os.cpu_count() if workers is None else workers)
    total = len(dataset.records)
    changes = _chosen(
        {keras_augment.color_jitter: color_jitter, keras_augment.random_erasing: random_erasing}
    )
    mixtures = _chosen({keras_augment.mix_up: mix_up, keras_augment.cut_mix: cut_mix})
    left_out = left_out or LeftOut(total)
    load = _loader(dataset, num_frames, image_size, sampling, training, seed, scales, flip, left_out)
    classes = len(dataset.class_names) if one_hot else None
    finish = _finisher(num_frames, image_size, training, changes, classes)

    def make_batches(places):
        clips = places.map(load, workers, deterministic=True)
        clips = clips.filter(lambda clip, label, clip_seed, is_read: is_read)
        clips = clips.map(finish, workers, deterministic=True)
        return clips.batch(share, drop_remainder=training)

    def put_history(clips, labels):
        # The batch is in random order: the clip before is a random one, and reading it costs nothing.
        before = tf.roll(clips[:, -history:], 1, axis=0)
        return tf.concat([before, clips], axis=1), labels

    def make_epoch(epoch):
        def mix(step, batch):
            for mixture in mixtures:
                # Clips use the numbers from 0 up, so batches use those from -1 down.
                batch = mixture(*batch, tf.random.fold_in([seed, epoch], -1 - step))
            return batch

        places = _places(dataset, epoch, batch_size, steps, seed, shard, sampling_weights)
        batches = make_batches(places).take(steps)
        if mixtures:
            batches = batches.enumerate().map(mix)
        return batches.map(put_history) if history else batches

    if training:
        batches = tf.data.Dataset.range(initial_epoch, epochs).flat_map(make_epoch)
        batches = batches.apply(tf.data.experimental.assert_cardinality((epochs - initial_epoch) * steps))
    else:
        batches = make_batches(tf.data.Dataset.range(index, total, count).map(lambda i: (i, 0, i)))
    options = tf.data.Options()
    # By default, at most as many clips are read at the same time as there are processors.
    options.threading.private_threadpool_size = workers
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _loader(dataset, num_frames, image_size, sampling, training, seed, scales, flip, left_out):
    """Returns a function that reads, crops and mirrors a clip in the graph of the pipeline.

    See `make_pipeline` for the arguments.

    Returns:
        Function of the tensors `record`, `epoch` and `position`. It returns the clip, uint8
        `(num_frames, H, W, 3)`, its label, a seed of two integers for its colours, and whether it is
        readable.
    """
    import tensorflow as tf

    total = len(dataset.records)
    labels = range(len(dataset.class_names))
    mirror_labels = augment.mirror_labels(dataset.class_names) if flip == "labels" else labels
    unreadable = set()

    def read(record, epoch, position):
        path, label = dataset.records[record]
        # One generator for all that is random about a clip, except its colours, treats its frames alike.
        rng = np.random.default_rng((seed, epoch, position)) if training else None

        def choose(count):
            dataset.check_num_frames(path, count)
            return segments.clip_indices(count, num_frames, sampling, rng)

        try:
            clip = read_frames(path, choose)
        except VideoError as error:
            left_out.add(path, error)
            unreadable.add(record)
            if len(unreadable) == total:
                # Training would search for a readable clip for ever.
                raise ValueError("no clip of the data set can be read") from error
            return np.zeros((num_frames, 1, 1, 3), "uint8"), np.int32(0), False
        unreadable.discard(record)
        if training:
            top, left, height, width = augment.multi_scale_box(*clip.shape[1:3], image_size, rng, scales)
            clip = clip[:, top : top + height, left : left + width]
            if flip != "none" and rng.random() < 0.5:
                clip, label = clip[:, :, ::-1], mirror_labels[label]
        return np.ascontiguousarray(clip), np.int32(label), True

    def load(record, epoch, position):
        clip, label, is_read = tf.numpy_function(
            read, (record, epoch, position), (tf.uint8, tf.int32, tf.bool), stateful=False
        )
        clip.set_shape((num_frames, None, None, 3))
        label.set_shape(())
        is_read.set_shape(())
        return clip, label, tf.random.fold_in([seed, epoch], position), is_read

    return load


def _finisher(num_frames, image_size, training, changes, classes):
    """Returns a function that turns the output of `_loader` into a preprocessed clip and its label.

    Args:
        num_frames: see `make_pipeline`.
        image_size: see `make_pipeline`.
        training: see `make_pipeline`.
        changes: functions of `keras_augment` that change the colours of training clips.
        classes: number of classes for one-hot labels; `None` for integers.
    """
    import tensorflow as tf

    def finish(clip, label, clip_seed, is_read):
        if training:
            clip = augment.resize(clip, image_size)
            for change in changes:
                clip = change(clip, clip_seed)
        else:
            clip = augment.resize_short_side(clip, augment.resize_size(image_size))
            clip = augment.center_crop(clip, image_size)
        clip.set_shape((num_frames, image_size, image_size, 3))
        return augment.normalize(clip), label if classes is None else tf.one_hot(label, classes)

    return finish


def steps_per_epoch(dataset, batch_size):
    """Returns the number of training batches in one epoch of `make_pipeline`, without a smaller last one.

    Raises:
        ValueError: `batch_size` is larger than the data set, or not a positive integer.
    """
    steps = len(dataset.records) // positive_int("batch_size", batch_size)
    if not steps:
        raise ArgumentError(
            "batch_size", batch_size, f"must be at most {len(dataset.records)}, the number of videos"
        )
    return steps


def batch_paths(
    dataset,
    epoch,
    step,
    *,
    batch_size,
    seed=0,
    sampling_weights="none",
    steps=None,
    shard=(0, 1),
    left_out=(),
):
    """Returns the paths of the clips in one training batch of `make_pipeline`.

    Args:
        dataset: see `make_pipeline`.
        epoch: epoch of the batch, from 0.
        step: step of the batch in the epoch, from 0.
        batch_size: see `make_pipeline`.
        seed: see `make_pipeline`.
        sampling_weights: see `make_pipeline`.
        steps: see `make_pipeline`.
        shard: see `make_pipeline`.
        left_out: paths of unreadable clips.

    Returns:
        List of paths.
    """
    steps = _check_steps(dataset, True, batch_size, steps)
    share = batch_size // _check_shard(shard, batch_size)[1]
    places = _places(dataset, epoch, batch_size, steps, seed, shard, sampling_weights)
    paths = (dataset.records[record][0] for record, _, _ in places.as_numpy_iterator())
    readable = (path for path in paths if path not in left_out)
    return list(itertools.islice(readable, step * share, (step + 1) * share))


def _places(dataset, epoch, batch_size, steps, seed, shard, sampling_weights):
    """Returns an endless data set of `(record, epoch, position)`: the clips of an epoch, then spare ones.

    Args:
        dataset: see `make_pipeline`.
        epoch: integer, or its tensor.
        batch_size: see `make_pipeline`.
        steps: see `make_pipeline`.
        seed: see `make_pipeline`.
        shard: see `make_pipeline`.
        sampling_weights: see `make_pipeline`.
    """
    import tensorflow as tf

    total = len(dataset.records)
    index, count = shard
    share = batch_size // count
    if sampling_weights != "none":
        labels = [label for _, label in dataset.records]
        order = tf.numpy_function(
            lambda epoch: class_balance.epoch_order(labels, sampling_weights, seed, int(epoch)),
            (epoch,),
            tf.int64,
            stateful=False,
        )
        order.set_shape((total,))

    def record_at(turn):
        if sampling_weights == "none":
            # Needs no memory for the order.
            return tf.random.experimental.index_shuffle(turn, [seed, epoch], total - 1)
        return tf.gather(order, turn)

    def place(step):
        position = step // share * batch_size + index * share + step % share
        # Spare clips replace skipped ones, so that batches stay full. In each shard, all clips are
        # spare: first those after the epoch's last step, then those from its start.
        spare = step - steps * share
        is_spare = spare >= 0
        turn = tf.where(is_spare, steps * batch_size + spare + index, position) % total
        position = tf.where(is_spare, steps * batch_size + spare * count + index, position)
        return record_at(turn), epoch, position

    return tf.data.Dataset.counter().map(place)


def _chosen(strengths):
    return [make(strength) for make, strength in strengths.items() if strength]


def _check_clips(dataset, num_frames, image_size, sampling, flip, scales):
    positive_int("num_frames", num_frames)
    positive_int("image_size", image_size)
    one_of("sampling", sampling, segments.SAMPLING)
    one_of("flip", flip, FLIPS)
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ArgumentError("scales", scales, "must be above 0 and at most 1")
    if any(label is None for _, label in dataset.records):
        raise ValueError("`dataset` must have labels, but it is a test set without labels.")


def _check_epochs(training, initial_epoch, epochs):
    if not training and (initial_epoch, epochs) != (0, 1):
        raise ArgumentError(
            "initial_epoch",
            initial_epoch,
            "and `epochs` must be 0 and 1 without `training`",
            f"initial_epoch={initial_epoch!r}, epochs={epochs!r}",
        )
    if not 0 <= initial_epoch < epochs:
        raise ArgumentError(
            "initial_epoch",
            initial_epoch,
            "must be at least 0 and less than `epochs`",
            f"initial_epoch={initial_epoch!r}, epochs={epochs!r}",
        )


def check_history(history, num_frames, batch_size, num_shards):
    """Raises `ArgumentError` if `make_pipeline` cannot put so many frames in front of a clip."""
    if positive_int("history", history) > num_frames:
        raise ArgumentError("history", history, f"must be at most `num_frames`, {num_frames}")
    if batch_size // num_shards < 2:
        raise ArgumentError(
            "batch_size", batch_size, "must be at least 2 for each shard with `history`, of another clip"
        )


def _check_steps(dataset, training, batch_size, steps):
    if not training:
        return None
    most = steps_per_epoch(dataset, batch_size)
    if steps is None:
        return most
    if positive_int("steps", steps) > most:
        raise ArgumentError("steps", steps, f"must be at most {most}, the number of full batches in an epoch")
    return steps


def _check_shard(shard, batch_size):
    index, count = shard
    if not 0 <= index < count:
        raise ArgumentError("shard", shard, "must be (index, count), with an index from 0 to count - 1")
    if positive_int("batch_size", batch_size) % count:
        raise ArgumentError("batch_size", batch_size, f"must be a multiple of the number of shards, {count}")
    return index, count
