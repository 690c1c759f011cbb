import numpy as np
import pytest
import tensorflow as tf

from keras_stm import preprocess_input
from keras_stm.data import augment


@pytest.mark.parametrize("image_size,expected", [(224, 256), (112, 128), (56, 64), (256, 293)])
def test_crops_come_from_a_short_side_in_the_paper_ratio(image_size, expected):
    assert augment.resize_size(image_size) == expected


@pytest.mark.parametrize(
    "height,width,size,expected",
    [
        (240, 320, 256, (256, 341)),
        (320, 240, 256, (341, 256)),
        (256, 340, 256, (256, 340)),
        (100, 100, 64, (64, 64)),
        (1, 1000, 2, (2, 2000)),
        (1080, 1920, 256, (256, 455)),
    ],
)
def test_long_side_is_rounded_to_the_nearest(height, width, size, expected):
    assert augment.short_side_shape(height, width, size) == expected
    tensors = augment.short_side_shape(tf.constant(height), tf.constant(width), size)
    assert tuple(side.numpy() for side in tensors) == expected


def test_resize_keeps_values_and_gives_the_short_side():
    clip = np.full((2, 30, 50, 3), 200, "uint8")
    resized = augment.resize_short_side(clip, 20)
    assert resized.shape == (2, 20, 33, 3) and resized.dtype == tf.float32
    np.testing.assert_allclose(resized, 200, rtol=1e-6)


def test_resize_is_antialiased():
    clip = np.zeros((1, 64, 64, 3), "uint8")
    clip[:, ::2] = 200
    inside = augment.resize_short_side(clip, 16).numpy()[:, 1:-1]
    np.testing.assert_allclose(inside, 100, atol=1)


@pytest.mark.parametrize("size,top,left", [(4, 0, 2), (3, 0, 2), (2, 1, 3)])
def test_center_crop_leaves_the_odd_pixel_at_the_end(size, top, left):
    clip = np.random.default_rng(0).normal(size=(2, 4, 8, 3))
    expected = clip[:, top : top + size, left : left + size]
    np.testing.assert_array_equal(augment.center_crop(clip, size), expected)

    @tf.function(input_signature=[tf.TensorSpec((2, None, None, 3), tf.float64)])
    def crop(clip):
        return augment.center_crop(clip, size)

    np.testing.assert_array_equal(crop(clip), expected)


def test_random_crop_is_one_place_for_all_frames_and_depends_on_the_seed_alone():
    frame = np.arange(9 * 12 * 3, dtype="float32").reshape(1, 9, 12, 3)
    clip = tf.constant(np.concatenate([frame, frame + 1000]))
    places = set()
    for seed in range(400):
        crop = augment.random_crop(clip, 7, (0, seed)).numpy()
        np.testing.assert_array_equal(crop[0], crop[1] - 1000)
        top, left = np.unravel_index(int(crop[0, 0, 0, 0]) // 3, (9, 12))
        np.testing.assert_array_equal(crop[0], frame[0, top : top + 7, left : left + 7])
        places.add((top, left))
        np.testing.assert_array_equal(crop, augment.random_crop(clip, 7, (0, seed)))
    assert places == {(top, left) for top in range(3) for left in range(6)}


def test_normalize_is_what_models_expect():
    clip = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")
    expected = preprocess_input(clip, data_format="channels_last")
    np.testing.assert_array_equal(augment.normalize(clip), expected)
    np.testing.assert_allclose(augment.normalize(tf.constant(clip)), expected, atol=1e-6)
