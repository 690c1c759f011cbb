"""Resizing in NumPy gives what TensorFlow's antialiased resizing gives."""

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data.resizing import resize

# TensorFlow computes the positions of pixels in float32, and normalises weights that are rounded already.
ATOL = 0.01


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


@pytest.mark.parametrize(
    "size,new_size",
    [
        # Smaller, larger, unchanged, and one side of each.
        *(((60, 81), (16, 22)), ((20, 24), (100, 120)), ((33, 21), (33, 21)), ((40, 30), (17, 55))),
        # By factors that are integers, of which some weights are zero.
        *(((64, 48), (16, 12)), ((9, 7), (27, 21))),
        # From and to single pixels.
        *(((1, 50), (3, 150)), ((50, 1), (5, 7)), ((30, 40), (1, 1))),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pixels_are_those_of_tensorflow(size, new_size, dtype):
    clip = noise(2, *size, 3).astype(dtype)
    resized = resize(clip, *new_size)
    assert resized.dtype == np.float32
    expected = tf.image.resize(clip.astype("float32"), new_size, antialias=True)
    np.testing.assert_allclose(resized, expected, atol=ATOL)


def test_unchanged_frames_keep_their_pixels():
    clip = noise(2, 11, 13, 3)
    np.testing.assert_array_equal(resize(clip, 11, 13), clip)


@pytest.mark.parametrize("box", [(0, 0, 30, 40), (5, 12, 20, 20), (29, 39, 1, 1)], ids=str)
def test_a_box_is_the_same_part_of_the_whole(box):
    top, left, height, width = box
    for size in ((90, 70), (10, 15)):
        clip = noise(2, *size, 3)
        expected = resize(clip, 30, 40)[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(resize(clip, 30, 40, box), expected)
