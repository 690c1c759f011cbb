"""Sizes, crops, mirrored labels and pixel values of a clip. All frames of one clip are treated alike.

A box is `(top, left, height, width)` in pixels.
"""

import numpy as np

from keras_stm.preprocessing import MEAN, STD, center_box, short_side_shape
from keras_stm.preprocessing import resize_size as resize_size
from keras_stm.twin_classes import twin_labels

# (top, left) of a multi-scale crop in quarters of the space around it.
_CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4))
_EDGES = ((0, 2), (2, 0), (2, 4), (4, 2))
_BETWEEN = ((1, 1), (1, 3), (3, 1), (3, 3))
_PLACES = (*_CORNERS, (2, 2), *_EDGES, *_BETWEEN)

_MIRRORED = {
    "left": "right",
    "right": "left",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
}


def resize_short_side(clip, size):
    """Scales a clip like `resize`, but to a short side of `size` pixels.

    Args:
        clip: tensor `(T, H, W, 3)`, uint8 or float.
        size: new short side in pixels.

    Returns:
        float32 tensor `(T, size, W', 3)` or `(T, H', size, 3)`, with values in the same range.
    """
    return _resize(clip, *short_side_shape(*_height_and_width(clip), size))


def resize(clip, size):
    """Scales a clip to a square, bilinear, and antialiased if a side shrinks.

    Args:
        clip: tensor `(T, H, W, 3)`, uint8 or float.
        size: new height and width in pixels.

    Returns:
        float32 tensor `(T, size, size, 3)`, with values in the same range.
    """
    return _resize(clip, size, size)


def center_crop(clip, size):
    """Returns the middle `size` x `size` pixels of an array or tensor `(T, H, W, 3)`."""
    top, left, _, _ = center_box(*_height_and_width(clip), size)
    return clip[:, top : top + size, left : left + size]


def three_boxes(height, width, size):
    """Returns the square boxes at both ends and in the middle of a frame's long side (section 4.2).

    Args:
        height: height of the frame. Its short side is `size` pixels, like after `resize_short_side`.
        width: width of the frame.
        size: height and width of the boxes in pixels.

    Returns:
        List of three boxes.
    """
    top, left, _, _ = center_box(height, width, size)
    if height > width:
        return [(offset, left, size, size) for offset in (0, top, height - size)]
    return [(top, offset, size, size) for offset in (0, left, width - size)]


def box_sizes(height, width, size, scales):
    """Returns the `(height, width)` that a multi-scale crop may have.

    Each of the two is the short side of the frame times one of `scales`. The two scales are equal or
    next to each other. A side less than 3 pixels from `size` becomes `size` if the frame is large enough,
    which saves resizing.
    """
    short = min(height, width)
    sides = [max(int(short * scale), 1) for scale in scales]
    sides = [size if abs(side - size) < 3 and size <= short else side for side in sides]
    return [
        (box_height, box_width)
        for i, box_height in enumerate(sides)
        for j, box_width in enumerate(sides)
        if abs(i - j) <= 1
    ]


def box_places(height, width, box_height, box_width):
    """Returns the 13 places `(top, left)` of a multi-scale crop.

    Crops at the far edges of the frame may end up to 3 pixels before them, because of rounding.
    """
    down, right = (height - box_height) // 4, (width - box_width) // 4
    return [(i * down, j * right) for i, j in _PLACES]


def multi_scale_box(height, width, size, rng, scales=(1, 0.875, 0.75, 0.66)):
    """Draws a random crop by the "corner cropping and scale jittering" of section 4.2, which is TSN's.

    Args:
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        size: height and width in pixels to which the crop will be resized.
        rng: `np.random.Generator`.
        scales: sides of the crop relative to the frame's short side, above 0 and at most 1.

    Returns:
        Box of one of the `box_sizes` at one of its `box_places`.
    """
    sizes = box_sizes(height, width, size, scales)
    box = sizes[rng.integers(len(sizes))]
    places = box_places(height, width, *box)
    return *places[rng.integers(len(places))], *box


def mirror_labels(class_names):
    """Returns the label of each class's mirror twin.

    The name of the twin has left and right swapped, and clockwise and counterclockwise. Only whole words
    of the names count. A class without a twin has its own label.

    Args:
        class_names: one name per class.

    Returns:
        int64 array `(classes,)`.
    """
    return twin_labels(class_names, _MIRRORED)


def normalize(clip):
    """Normalises like `keras_stm.preprocess_input`, but accepts TensorFlow's tensors under every backend."""
    mean, std = (np.array(value, "float32") * 255 for value in (MEAN, STD))
    if isinstance(clip, np.ndarray):
        return (clip - mean) / std
    import tensorflow as tf

    # The last axis is a row of pixels: with a last axis of three, TensorFlow takes five times as long.
    shape = tf.shape(clip)
    rows = tf.reshape(clip, (shape[0], shape[1], -1))
    mean, std = (tf.tile(value, shape[2:3]) for value in (mean, std))
    return tf.reshape((rows - mean) / std, shape)


def _resize(clip, height, width):
    import tensorflow as tf

    def antialiased():
        # The frames become channels of one image: with only three channels, resizing is half as fast.
        image = tf.reshape(tf.transpose(clip, (1, 2, 0, 3)), (1, from_height, from_width, -1))
        image = tf.image.resize(image, (height, width), antialias=True)
        return tf.transpose(tf.reshape(image, (height, width, -1, 3)), (2, 0, 1, 3))

    from_height, from_width = _height_and_width(clip)
    # If no side shrinks, both return the same, and the second takes a sixth of the time.
    shrinks = tf.logical_or(from_height > height, from_width > width)
    return tf.cond(shrinks, antialiased, lambda: tf.image.resize(clip, (height, width)))


def _height_and_width(clip):
    if None not in clip.shape[1:3]:
        return clip.shape[1:3]
    import tensorflow as tf

    return tf.unstack(tf.shape(clip)[1:3])
