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
    """Scales a clip as `resize` does until its short side is `size` pixels.

    Args:
        clip: tensor `(T, H, W, 3)`, uint8 or float.
        size: pixels.

    Returns:
        float32 tensor `(T, size, W', 3)` or `(T, H', size, 3)`, its values in the same range.
    """
    return _resize(clip, *short_side_shape(*_height_and_width(clip), size))


def resize(clip, size):
    """Scales a clip to a square, bilinear and, where a side shrinks, antialiased.

    Args:
        clip: tensor `(T, H, W, 3)`, uint8 or float.
        size: pixels.

    Returns:
        float32 tensor `(T, size, size, 3)`, its values in the same range.
    """
    return _resize(clip, size, size)


def center_crop(clip, size):
    """The middle `size` x `size` pixels of an array or tensor `(T, H, W, 3)`."""
    top, left, _, _ = center_box(*_height_and_width(clip), size)
    return clip[:, top : top + size, left : left + size]


def three_boxes(height, width, size):
    """The `size` x `size` pixels at both ends and the middle of a frame's longer side (section 4.2).

    Args:
        height, width: of the frame, its short side `size` pixels as after `resize_short_side`.
        size: pixels.

    Returns:
        List of three boxes.
    """
    top, left, _, _ = center_box(height, width, size)
    if height > width:
        return [(offset, left, size, size) for offset in (0, top, height - size)]
    return [(top, offset, size, size) for offset in (0, left, width - size)]


def box_sizes(height, width, size, scales):
    """The `(height, width)` that a multi-scale crop may have: the short side times each of two scales.

    These are the same or next to each other in `scales`. A side less than 3 pixels from `size` becomes
    `size` where the frame is large enough, which saves resizing.
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
    """The 13 `(top, left)` at which a multi-scale crop may lie; its far corner up to 3 pixels short."""
    down, right = (height - box_height) // 4, (width - box_width) // 4
    return [(i * down, j * right) for i, j in _PLACES]


def multi_scale_box(height, width, size, rng, scales=(1, 0.875, 0.75, 0.66)):
    """The "corner cropping and scale jittering" of section 4.2, which is TSN's, for a random crop.

    Args:
        height, width: of the frame in pixels.
        size: what the crop will be resized to, in pixels.
        rng: `np.random.Generator`.
        scales: sides of the crop as parts of the frame's short side, above 0 and at most 1.

    Returns:
        One of the `box_sizes` at one of its `box_places`.
    """
    sizes = box_sizes(height, width, size, scales)
    box = sizes[rng.integers(len(sizes))]
    places = box_places(height, width, *box)
    return *places[rng.integers(len(places))], *box


def mirror_labels(class_names):
    """The label of each class's mirror twin: left for right and clockwise for counterclockwise, or back.

    Only whole words of the names count. Where no class is named so the label is the class's own.

    Args:
        class_names: one name per class.

    Returns:
        int64 array `(classes,)`.
    """
    return twin_labels(class_names, _MIRRORED)


def normalize(clip):
    """What `keras_stm.preprocess_input` does, for TensorFlow's tensors under every backend too."""
    mean, std = (np.array(value, "float32") * 255 for value in (MEAN, STD))
    if isinstance(clip, np.ndarray):
        return (clip - mean) / std
    import tensorflow as tf

    # By rows of pixels: with a last axis of three TensorFlow takes five times as long.
    shape = tf.shape(clip)
    rows = tf.reshape(clip, (shape[0], shape[1], -1))
    mean, std = (tf.tile(value, shape[2:3]) for value in (mean, std))
    return tf.reshape((rows - mean) / std, shape)


def _resize(clip, height, width):
    import tensorflow as tf

    def antialiased():
        # Frames as channels of one image: with only three, half as fast.
        image = tf.reshape(tf.transpose(clip, (1, 2, 0, 3)), (1, from_height, from_width, -1))
        image = tf.image.resize(image, (height, width), antialias=True)
        return tf.transpose(tf.reshape(image, (height, width, -1, 3)), (2, 0, 1, 3))

    from_height, from_width = _height_and_width(clip)
    # Where no side shrinks both give the same, and the second does in a sixth of the time.
    shrinks = tf.logical_or(from_height > height, from_width > width)
    return tf.cond(shrinks, antialiased, lambda: tf.image.resize(clip, (height, width)))


def _height_and_width(clip):
    if None not in clip.shape[1:3]:
        return clip.shape[1:3]
    import tensorflow as tf

    return tf.unstack(tf.shape(clip)[1:3])
