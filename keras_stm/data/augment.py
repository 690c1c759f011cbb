"""Sizes, crops and pixel values of a clip. All frames of one clip are treated alike."""

import numpy as np

from keras_stm.preprocessing import MEAN, STD


def resize_size(image_size):
    """The short side in pixels that goes with crops of `image_size`: 256 with the paper's 224."""
    return round(image_size * 256 / 224)


def short_side_shape(height, width, size):
    """Height and width once the short side is `size` pixels, the other rounded to the nearest.

    Takes integers or integer tensors.
    """
    # min() does not take tensors.
    short = (height + width - abs(height - width)) // 2
    return tuple((2 * side * size + short) // (2 * short) for side in (height, width))


def resize_short_side(clip, size):
    """Scales a clip, bilinear and antialiased, until its short side is `size` pixels.

    Args:
        clip: tensor `(T, H, W, 3)` of any type.
        size: pixels.

    Returns:
        float32 tensor `(T, size, W', 3)` or `(T, H', size, 3)`, its values in the same range.
    """
    import tensorflow as tf

    shape = short_side_shape(*_height_and_width(clip), size)
    return tf.image.resize(tf.cast(clip, tf.float32), shape, antialias=True)


def center_crop(clip, size):
    """The middle `size` x `size` pixels of an array or tensor `(T, H, W, 3)`."""
    top, left = ((side - size) // 2 for side in _height_and_width(clip))
    return clip[:, top : top + size, left : left + size]


def random_crop(clip, size, seed):
    """`size` x `size` pixels of a tensor `(T, H, W, 3)`, at one random place for the whole clip.

    Args:
        clip: tensor of at least `size` pixels in height and width; its T is static.
        size: pixels.
        seed: two integers; the same pair gives the same place.
    """
    import tensorflow as tf

    return tf.image.stateless_random_crop(clip, (clip.shape[0], size, size, 3), seed)


def normalize(clip):
    """What `keras_stm.preprocess_input` does, for TensorFlow's tensors under every backend too."""
    mean, std = (np.array(value, "float32") * 255 for value in (MEAN, STD))
    return (clip - mean) / std


def _height_and_width(clip):
    if None not in clip.shape[1:3]:
        return clip.shape[1:3]
    import tensorflow as tf

    return tf.unstack(tf.shape(clip)[1:3])
