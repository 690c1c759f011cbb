"""Augmentation by Keras' own layers, with one draw for all frames of a clip.

Each function here makes another, for `tf.data.Dataset.map` under every backend. What that one does depends
on its arguments alone, so that a clip is the same however many workers there are.
"""

import zlib

from keras import layers

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError


def color_jitter(factor):
    """Random brightness, contrast, saturation and hue, one strength for all of them as in RandAugment.

    Not `keras.layers.RandAugment` itself, which also turns and shears frames, inverts most colours at
    its lowest strength and takes five times as long.

    Args:
        factor: strength, above 0 and at most 1. With 0.4 brightness changes by up to 0.4 of its range,
            contrast by up to 40% and hue by up to a tenth of its circle.

    Returns:
        Function of `clip`, float32 tensor `(T, H, W, 3)` of pixels from 0 to 255, and `seed`, two integers,
        that returns such a clip.

    Raises:
        ValueError: `factor` is not as above.
    """
    import tensorflow as tf

    _check("factor", factor)
    # Pixels from 0 to 1, as RandomSaturation cuts saturation, which ends at 1, to `value_range` too.
    jitter = [
        _layer(layers.RandomBrightness, factor, value_range=(0, 1)),
        _layer(layers.RandomContrast, (factor, factor), value_range=(0, 1)),
        # 0.5 leaves saturation as it is.
        _layer(layers.RandomSaturation, (0.5 - factor / 2, 0.5 + factor / 2), value_range=(0, 1)),
        _layer(layers.RandomHue, factor / 2, value_range=(0, 1)),
    ]

    def augment(clip, seed):
        # As one high image, which has one draw, and one mean for contrast.
        image = tf.reshape(clip / 255, (1, -1, clip.shape[2], 3))
        for layer in jitter:
            image = layer.transform_images(image, _draw(layer, image, seed))
        return tf.reshape(image * 255, tf.shape(clip))

    return augment


def random_erasing(factor):
    """Noise in place of a random rectangle, the same in each frame (Zhong et al., 2020).

    Args:
        factor: share of the clips that it happens to, above 0 and at most 1.

    Returns:
        Function of `clip`, float32 tensor `(T, H, W, 3)` of pixels from 0 to 255, and `seed`, two integers,
        that returns such a clip.

    Raises:
        ValueError: `factor` is not as above.
    """
    _check("factor", factor)
    # A pair, as one number would be the upper limit of a random share.
    layer = _layer(layers.RandomErasing, (factor, factor))

    def augment(clip, seed):
        return layer.transform_images(clip, _draw(layer, clip[:1], seed))

    return augment


def mix_up(alpha):
    """Weighted means of each clip and another of its batch, and of their labels (Zhang et al., 2018).

    Args:
        alpha: above 0 and at most 1; the weights come from the distribution Beta(alpha, alpha).

    Returns:
        Function of `clips`, float32 tensor `(B, T, H, W, 3)`, `labels`, float32 tensor `(B, classes)`, and
        `seed`, two integers, that returns such clips and labels.

    Raises:
        ValueError: `alpha` is not as above.
    """
    import tensorflow as tf

    _check("alpha", alpha)
    layer = _layer(layers.MixUp, alpha)

    def augment(clips, labels, seed):
        # The layer takes images only: a clip's frames below one another.
        images = tf.reshape(clips, (clips.shape[0], -1, clips.shape[3], 3))
        transformation = _draw(layer, images, seed)
        images = layer.transform_images(images, transformation)
        return tf.reshape(images, tf.shape(clips)), layer.transform_labels(labels, transformation)

    return augment


def cut_mix(alpha):
    """A random rectangle of each clip, the same in each frame, from another of its batch (Yun et al., 2019).

    The labels are mixed by area, which Keras takes before rounding the rectangle to whole pixels.

    Args:
        alpha: above 0 and at most 1; the share that stays comes from the distribution Beta(alpha, alpha).

    Returns:
        Function of `clips`, float32 tensor `(B, T, H, W, 3)`, `labels`, float32 tensor `(B, classes)`, and
        `seed`, two integers, that returns such clips and labels.

    Raises:
        ValueError: `alpha` is not as above.
    """
    import tensorflow as tf

    _check("alpha", alpha)
    # A pair, as one number would be the upper limit of a random alpha.
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
    """A layer that fits into `tf.data`, whatever the model's backend, data format and precision."""
    layer = layer_class(*args, data_format="channels_last", dtype="float32", **settings)
    return keras_compat.compute_with_tensorflow(layer)


def _draw(layer, images, seed):
    """The layer's random transformation, of the shape of `images`."""
    import tensorflow as tf

    # No two layers shall draw the same numbers from one seed. Halved, the hash is an int32.
    seed = tf.random.fold_in(seed, zlib.crc32(type(layer).__name__.encode()) >> 1)
    return layer.get_random_transformation(images, seed=_Draws(seed))


class _Draws(keras_compat.SeedsWithoutVariable):
    """The seeds of one clip's or batch's draws, made from its own.

    Keras' generator counts draws in a variable: a clip's would depend on how many workers came before.
    """

    def __init__(self, seed):
        super().__init__()
        self._seed = seed
        self._count = 0

    def next(self, ordered=True):
        import tensorflow as tf

        self._count += 1
        return tf.random.fold_in(self._seed, self._count)
