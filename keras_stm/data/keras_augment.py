"""Augmentation by Keras's layers, with one random draw for all frames of a clip.

Each function here returns another function, for `tf.data.Dataset.map` under every backend. The result of
that function depends on its arguments alone. A clip is therefore the same for any number of workers.
"""

import zlib

from keras import layers

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError


def color_jitter(factor):
    """Returns a function that randomly changes brightness, contrast, saturation and hue.

    One strength controls all four, like in RandAugment. `keras.layers.RandAugment` is not used: it also
    rotates and shears frames, inverts most colours at its lowest strength, and takes five times as long.

    Args:
        factor: strength, above 0 and at most 1. At 0.4, brightness changes by up to 0.4 of its range,
            contrast by up to 40%, and hue by up to a tenth of its circle.

    Returns:
        Function of `clip` and `seed` that returns the changed clip. `clip` is a float32 tensor
        `(T, H, W, 3)` of pixels from 0 to 255, and `seed` two integers.

    Raises:
        ValueError: `factor` is out of range.
    """
    import tensorflow as tf

    _check("factor", factor)
    # Pixels are from 0 to 1, because RandomSaturation also clips saturation, at most 1, to `value_range`.
    jitter = [
        _layer(layers.RandomBrightness, factor, value_range=(0, 1)),
        _layer(layers.RandomContrast, (factor, factor), value_range=(0, 1)),
        # A factor of 0.5 leaves saturation unchanged.
        _layer(layers.RandomSaturation, (0.5 - factor / 2, 0.5 + factor / 2), value_range=(0, 1)),
        _layer(layers.RandomHue, factor / 2, value_range=(0, 1)),
    ]

    def augment(clip, seed):
        # The frames form one tall image, so that they share one draw, and one mean for contrast.
        image = tf.reshape(clip / 255, (1, -1, clip.shape[2], 3))
        for layer in jitter:
            image = layer.transform_images(image, _draw(layer, image, seed))
        return tf.reshape(image * 255, tf.shape(clip))

    return augment


def random_erasing(factor):
    """Returns a function that fills a random rectangle with noise, the same in each frame.

    See Zhong et al., 2020.

    Args:
        factor: share of the clips to change, above 0 and at most 1.

    Returns:
        Function of `clip` and `seed` that returns the changed clip. `clip` is a float32 tensor
        `(T, H, W, 3)` of pixels from 0 to 255, and `seed` two integers.

    Raises:
        ValueError: `factor` is out of range.
    """
    _check("factor", factor)
    # A pair, because a single number would be the upper limit of a random share.
    layer = _layer(layers.RandomErasing, (factor, factor))

    def augment(clip, seed):
        return layer.transform_images(clip, _draw(layer, clip[:1], seed))

    return augment


def mix_up(alpha):
    """Returns a function that averages each clip with another clip of its batch, and their labels too.

    The means are weighted. See Zhang et al., 2018.

    Args:
        alpha: above 0 and at most 1. The weights come from the distribution Beta(alpha, alpha).

    Returns:
        Function of `clips`, `labels` and `seed` that returns mixed clips and labels. `clips` is a float32
        tensor `(B, T, H, W, 3)`, `labels` a float32 tensor `(B, classes)`, and `seed` two integers.

    Raises:
        ValueError: `alpha` is out of range.
    """
    import tensorflow as tf

    _check("alpha", alpha)
    layer = _layer(layers.MixUp, alpha)

    def augment(clips, labels, seed):
        # The layer accepts only images, so the frames of a clip form one tall image.
        images = tf.reshape(clips, (clips.shape[0], -1, clips.shape[3], 3))
        transformation = _draw(layer, images, seed)
        images = layer.transform_images(images, transformation)
        return tf.reshape(images, tf.shape(clips)), layer.transform_labels(labels, transformation)

    return augment


def cut_mix(alpha):
    """Returns a function that replaces a random rectangle of each clip with that of another of its batch.

    The rectangle is the same in each frame. The labels are mixed by area, which Keras computes before it
    rounds the rectangle to whole pixels. See Yun et al., 2019.

    Args:
        alpha: above 0 and at most 1. The share that stays comes from the distribution Beta(alpha, alpha).

    Returns:
        Function of `clips`, `labels` and `seed` that returns mixed clips and labels. `clips` is a float32
        tensor `(B, T, H, W, 3)`, `labels` a float32 tensor `(B, classes)`, and `seed` two integers.

    Raises:
        ValueError: `alpha` is out of range.
    """
    import tensorflow as tf

    _check("alpha", alpha)
    # A pair, because a single number would be the upper limit of a random alpha.
    layer = _layer(layers.CutMix, (alpha, alpha))

    def augment(clips, labels, seed):
        frames = tf.unstack(clips, axis=1)
        transformation = _draw(layer, frames[0], seed)
        frames = [layer.transform_images(frame, transformation) for frame in frames]
        return tf.stack(frames, axis=1), layer.transform_labels(labels, transformation)

    return augment


def _check(name, value):
    if not 0 < value <= 1:
        raise ArgumentError(name, value, "must be above 0 and at most 1")


def _layer(layer_class, *args, **settings):
    """Returns a layer that works in `tf.data` under every backend, data format and precision."""
    layer = layer_class(*args, data_format="channels_last", dtype="float32", **settings)
    return keras_compat.compute_with_tensorflow(layer)


def _draw(layer, images, seed):
    """Returns the layer's random transformation for images of the shape of `images`."""
    import tensorflow as tf

    # The hash makes different layers draw different numbers from one seed. Halved, it fits an int32.
    seed = tf.random.fold_in(seed, zlib.crc32(type(layer).__name__.encode()) >> 1)
    return layer.get_random_transformation(images, seed=_Draws(seed))


class _Draws(keras_compat.SeedsWithoutVariable):
    """The seeds of the draws of one clip or batch, made from its own seed.

    Keras's generator counts draws in a variable. The draws of a clip would depend on how many clips the
    workers changed before.
    """

    def __init__(self, seed):
        super().__init__()
        self._seed = seed
        self._count = 0

    def next(self, ordered=True):
        import tensorflow as tf

        self._count += 1
        return tf.random.fold_in(self._seed, self._count)
