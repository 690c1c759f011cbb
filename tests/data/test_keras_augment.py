import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import keras_augment
from tests.data.errors import argument_error

OF_CLIPS = [keras_augment.color_jitter, keras_augment.random_erasing]
OF_BATCHES = [keras_augment.mix_up, keras_augment.cut_mix]
CLASSES = 5


@pytest.fixture(scope="module")
def clip():
    """Three equal frames with colours, and with greys from black to white."""
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    frame[0], frame[1], frame[2] = 0, 255, np.arange(30)[:, np.newaxis] * 8
    return np.stack([frame] * 3).astype("float32")


def numbered_batch(batch, height=20, width=30):
    """Returns clips `(batch, 2, height, width, 3)`, all pixels equal to the label, and one-hot labels."""
    labels = np.arange(batch) % CLASSES
    clips = np.broadcast_to(labels.reshape(-1, 1, 1, 1, 1), (batch, 2, height, width, 3))
    return tf.constant(clips, tf.float32), tf.one_hot(labels, CLASSES)


def seeds(count, first=0):
    return tf.stack([tf.range(first, first + count), tf.ones(count, tf.int32)], axis=1)


def augmented(make, clip, seeds, workers=1):
    """Augments a clip, or a batch of it, in a `tf.data` pipeline, once for each seed."""
    augment = make(0.5)

    def apply(seed):
        if make in OF_CLIPS:
            return augment(tf.constant(clip), seed)
        mixed, labels = augment(tf.stack([clip, clip + 1, clip + 2]), tf.eye(3), seed)
        return tf.concat([tf.reshape(mixed, [-1]), tf.reshape(labels, [-1])], axis=0)

    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(apply, num_parallel_calls=workers)
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.fixture(scope="module", params=OF_CLIPS + OF_BATCHES, ids=lambda make: make.__name__)
def expected(request, clip):
    """A function, and its results for twelve seeds, one after the other."""
    return request.param, augmented(request.param, clip, seeds(12))


@pytest.mark.every_backend
def test_a_seed_gives_the_same_whatever_came_before_the_number_of_workers_and_the_model(expected, clip):
    make, found = expected
    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    try:
        # These settings of a model must not change the result.
        keras.config.set_dtype_policy("mixed_float16")
        keras.config.set_image_data_format("channels_first")
        other = augmented(make, clip, seeds(7, first=5), workers=4)
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(data_format)
    assert other.dtype == np.float32
    np.testing.assert_array_equal(other, found[5:])


def test_other_seeds_give_other_clips(expected):
    different = {array.tobytes() for array in expected[1]}
    assert len(different) > 4  # half of the clips are not erased, so they are equal


def test_frames_that_are_alike_stay_alike(expected, clip):
    make, clips = expected
    if make in OF_BATCHES:
        clips = clips[:, : 3 * clip.size].reshape(-1, *clip.shape)
    assert (clips != clip).any()
    np.testing.assert_array_equal(clips, clips[:, :1].repeat(3, axis=1))


@pytest.mark.parametrize("make", OF_CLIPS)
@pytest.mark.parametrize("factor", [0.1, 1])
def test_pixels_stay_between_0_and_255(make, factor, clip):
    augment = make(factor)
    for seed in seeds(5):
        changed = augment(clip, seed).numpy()
        assert changed.min() >= 0 and changed.max() <= 255


def test_color_jitter_of_little_strength_changes_little(clip):
    changed = keras_augment.color_jitter(0.001)(clip, (1, 2))
    assert 0 < np.abs(changed - clip).max() < 1.5


def test_color_jitter_goes_both_ways():
    dark_and_bright = np.repeat([[[[100.0]], [[150.0]]]], 3, axis=-1).astype("float32")
    augment = keras_augment.color_jitter(0.3)
    changed = np.stack([augment(dark_and_bright, seed) for seed in seeds(40)])
    brightness = changed.mean(axis=(1, 2, 3, 4)) - 125
    contrast = np.ptp(changed, axis=(1, 2, 3, 4)) / 50
    assert -76.5 <= brightness.min() < -40 and 40 < brightness.max() <= 76.5
    assert 0.699 <= contrast.min() < 0.8 and 1.2 < contrast.max() <= 1.301
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.5

    color = np.array([[[[150, 100, 100]]]], "float32")
    changed = np.stack([augment(color, seed) for seed in seeds(40)])
    saturation = np.ptp(changed, axis=-1) / changed.max(axis=-1)
    assert saturation.min() < 0.25 and saturation.max() > 0.45
    towards_blue = (changed[..., 2] > changed[..., 1]).mean()
    assert 0.2 < towards_blue < 0.8


def test_random_erasing_puts_noise_into_one_rectangle(clip):
    clip = np.full_like(clip, 100.5)
    for erased in (keras_augment.random_erasing(1)(clip, seed).numpy() for seed in seeds(20)):
        rows, columns = ((erased[0, ..., 0] != 100.5).any(axis=axis) for axis in (1, 0))
        np.testing.assert_array_equal(erased[0, ..., 0] != 100.5, np.outer(rows, columns))
        # 2 to 33% of the area, with a margin for rounding to pixels.
        assert 0.01 < rows.mean() * columns.mean() < 0.4
        assert np.unique(erased).size > 2


def test_random_erasing_happens_to_its_share_of_clips(clip):
    for factor, least, most in ((0.2, 8, 35), (1, 100, 100)):
        augment = keras_augment.random_erasing(factor)
        dataset = tf.data.Dataset.from_tensor_slices(seeds(100))
        dataset = dataset.map(lambda seed, augment=augment: tf.reduce_any(augment(clip, seed) != clip))
        assert least <= sum(map(bool, dataset)) <= most


def test_mix_up_mixes_pixels_and_labels_with_the_same_weights():
    clips, labels = numbered_batch(CLASSES)
    weights = []
    for seed in seeds(20):
        mixed, mixed_labels = keras_augment.mix_up(0.5)(clips, labels, seed)
        assert mixed.shape == clips.shape
        expected = tf.linalg.matvec(mixed_labels, tf.range(CLASSES, dtype=tf.float32))
        expected = tf.broadcast_to(tf.reshape(expected, (-1, 1, 1, 1, 1)), clips.shape)
        np.testing.assert_allclose(mixed, expected, atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(mixed_labels, axis=1), 1, atol=1e-6)
        weights.append(tf.linalg.diag_part(mixed_labels))
    # Weights cover the whole range, and differ between the clips of a batch.
    assert np.ptp(weights) > 0.9
    assert (np.ptp(weights, axis=1) > 0.1).all()


def test_cut_mix_mixes_labels_by_the_area_of_one_rectangle():
    clips, labels = numbered_batch(CLASSES, height=40, width=60)
    shares = []
    for seed in seeds(20):
        mixed, mixed_labels = keras_augment.cut_mix(1)(clips, labels, seed)
        np.testing.assert_array_equal(mixed, mixed[:, :1, ..., :1] * tf.ones_like(mixed))
        for number, image, label in zip(range(CLASSES), mixed[:, 0, ..., 0], mixed_labels, strict=True):
            area = np.bincount(np.ravel(image).astype(int), minlength=CLASSES) / image.numpy().size
            # The tolerance is a pixel on each side of the rectangle.
            np.testing.assert_allclose(label, area, atol=1 / 40 + 1 / 60)
            cut = image.numpy() != number
            np.testing.assert_array_equal(cut, np.outer(cut.any(axis=1), cut.any(axis=0)))
            shares.append(cut.mean())
    assert min(shares) < 0.1 and max(shares) > 0.9


@pytest.mark.parametrize("make", OF_BATCHES)
def test_batches_of_one_clip_stay_as_they_are(make):
    clips, labels = numbered_batch(1)
    mixed, mixed_labels = make(1)(clips + 3, labels, (1, 2))
    np.testing.assert_allclose(mixed, clips + 3, rtol=1e-6)
    np.testing.assert_allclose(mixed_labels, labels, rtol=1e-6)


@pytest.mark.parametrize("make", OF_CLIPS + OF_BATCHES)
@pytest.mark.parametrize("value", [0, -0.1, 1.5])
def test_wrong_strengths_are_named(make, value):
    with argument_error("factor" if make in OF_CLIPS else "alpha", value):
        make(value)
