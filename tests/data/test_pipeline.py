import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, load_clip, make_pipeline, steps_per_epoch
from keras_stm.preprocessing import MEAN, STD
from tests.data.videos import KINDS, decode_all, write_video


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Ten videos of several containers, lengths and shapes."""
    folder = tmp_path_factory.mktemp("videos")
    kinds = itertools.cycle(KINDS.values())
    records = []
    for i, (codec, options, extension) in zip(range(10), kinds, strict=False):
        shape = {"num_frames": 5 + 4 * i, "height": 32 + 16 * (i % 3), "width": 48}
        path = write_video(folder / f"{i}{extension}", codec=codec, options=options, **shape)
        records.append((path, i % 3))
    return Dataset(records, ("a", "b", "c"))


def batches(dataset, **arguments):
    arguments = {"batch_size": 3, "num_frames": 4, "image_size": 14, **arguments}
    return [(clip.numpy(), label.numpy()) for clip, label in make_pipeline(dataset, **arguments)]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_evaluation_gives_every_clip_once_in_order(dataset):
    found = batches(dataset)
    assert [clip.shape for clip, _ in found] == [(3, 4, 14, 14, 3)] * 3 + [(1, 4, 14, 14, 3)]
    labels = np.concatenate([label for _, label in found])
    assert labels.tolist() == [label for _, label in dataset.records]
    assert labels.dtype == np.int32 and found[0][0].dtype == np.float32
    assert_same(found, batches(dataset))


def test_evaluation_is_centers_short_side_center_crop_and_normalisation(dataset):
    path = dataset.records[2][0]
    frames = decode_all(path)
    assert frames.shape == (13, 64, 48, 3)
    clip = tf.image.resize(frames[[1, 4, 8, 11]].astype("float32"), (21, 16), antialias=True)
    expected = (clip.numpy()[:, 3:17, 1:15] / 255 - MEAN) / STD
    np.testing.assert_allclose(batches(dataset)[0][0][2], expected, atol=1e-5)


def test_load_clip_gives_what_evaluation_does(dataset):
    # Backends other than TensorFlow round the weights of the resampling otherwise.
    atol = 1e-5 if keras.backend.backend() == "tensorflow" else 1e-3
    expected = np.concatenate([clip for clip, _ in batches(dataset)])
    for (path, _), clip in zip(dataset.records, expected, strict=True):
        loaded = load_clip(path, num_frames=4, image_size=14)
        assert isinstance(loaded, np.ndarray) and loaded.dtype == np.float32
        assert loaded.shape == (1, 4, 14, 14, 3)
        np.testing.assert_allclose(loaded[0], clip, atol=atol)


def test_shapes_are_static(dataset):
    arguments = {"batch_size": 3, "num_frames": 4, "image_size": 14}
    training = make_pipeline(dataset, **arguments, training=True, epochs=2)
    assert training.element_spec[0].shape == (3, 4, 14, 14, 3)
    assert training.element_spec[1].shape == (3,)
    assert training.cardinality() == 6
    evaluation = make_pipeline(dataset, **arguments)
    assert evaluation.element_spec[0].shape.as_list() == [None, 4, 14, 14, 3]
    assert evaluation.cardinality() == 4


def test_training_is_a_function_of_the_seed(dataset):
    first, again, other = (batches(dataset, training=True, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


def test_training_resumes_with_the_batches_it_would_have_seen(dataset):
    whole = batches(dataset, training=True, epochs=3)
    assert len(whole) == 3 * steps_per_epoch(dataset, 3) == 9
    assert_same(whole[3:], batches(dataset, training=True, initial_epoch=1, epochs=3))


def test_training_shuffles_each_epoch_without_repeats(tmp_path):
    records = [(write_video(tmp_path / "video.mp4", num_frames=4), i) for i in range(20)]
    found = batches(Dataset(records, ()), training=True, epochs=3, batch_size=6)
    labels = np.reshape([label for _, label in found], (3, 18))
    assert all(len(set(epoch)) == 18 for epoch in labels.tolist())
    assert len({tuple(epoch) for epoch in labels.tolist()}) == 3
    assert (labels[0] != np.sort(labels[0])).any()


def test_training_draws_other_frames_and_crops_each_epoch(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=40)
    clips = [
        clip[0] for clip, _ in batches(Dataset([(path, 0)], ("a",)), training=True, epochs=4, batch_size=1)
    ]
    for a, b in itertools.combinations(clips, 2):
        assert (a != b).any()


def test_training_keeps_clip_and_label_together(tmp_path):
    records = [
        (write_video(tmp_path / f"{label}.mp4", num_frames=4, brightness=50 * label), label)
        for label in range(5)
    ]
    for clip, label in batches(Dataset(records, ()), training=True, batch_size=5, epochs=4):
        brightness = ((clip * STD + MEAN) * 255).mean(axis=(1, 2, 3, 4)) - 20
        assert np.round(brightness / 50).astype(int).tolist() == label.tolist()


def test_broken_file_is_named_with_the_reason(dataset, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    dataset = Dataset([*dataset.records, (str(broken), 0)], dataset.class_names)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        batches(dataset)
    assert f"VideoError: {broken}: not a video, or damaged" in str(error.value)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"batch_size": 0}, "Received: batch_size=0"),
        ({"num_frames": 0}, "Received: num_frames=0"),
        ({"image_size": -1}, "Received: image_size=-1"),
        (
            {"batch_size": 11, "training": True},
            "`batch_size` must be at most 10, the number of videos. Received: batch_size=11",
        ),
        ({"training": True, "initial_epoch": 2, "epochs": 2}, "less than `epochs`. Received: "),
        ({"epochs": 2}, "without `training`. Received: initial_epoch=0, epochs=2"),
    ],
)
def test_wrong_arguments_are_named(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(dataset, **arguments)
