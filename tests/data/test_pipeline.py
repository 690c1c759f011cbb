import itertools
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, LeftOut, make_pipeline, pipeline, steps_per_epoch
from keras_stm.models import STMResNet
from keras_stm.preprocessing import MEAN, STD
from tests.data.videos import decode_all, write_video

AUGMENTATION = {
    **{"flip": "labels", "color_jitter": 0.3, "random_erasing": 0.5, "sampling": "dense"},
    **{"mix_up": 0.2, "cut_mix": 1.0, "one_hot": True},
}


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


def test_shapes_are_static(dataset):
    arguments = {"batch_size": 3, "num_frames": 4, "image_size": 14}
    training = make_pipeline(dataset, **arguments, training=True, epochs=2)
    assert training.element_spec[0].shape == (3, 4, 14, 14, 3)
    assert training.element_spec[1].shape == (3,)
    assert training.cardinality() == 6
    evaluation = make_pipeline(dataset, **arguments)
    assert evaluation.element_spec[0].shape.as_list() == [None, 4, 14, 14, 3]


def test_training_is_a_function_of_the_seed(dataset):
    first, again, other = (batches(dataset, training=True, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("augmentation", [{}, AUGMENTATION], ids=["plain", "everything"])
def test_training_resumes_with_the_batches_it_would_have_seen(dataset, augmentation):
    whole = batches(dataset, training=True, epochs=3, **augmentation)
    assert len(whole) == 3 * steps_per_epoch(dataset, 3) == 9
    assert_same(whole[3:], batches(dataset, training=True, initial_epoch=1, epochs=3, **augmentation))


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


@pytest.fixture
def spoiled(dataset, tmp_path):
    """The videos with four that cannot be read among them."""
    records = list(dataset.records)
    for i, place in enumerate((0, 4, 5, 13)):
        broken = tmp_path / f"broken_{i}.mp4"
        broken.write_bytes(b"no video")
        records.insert(place, (str(broken), 2))
    return Dataset(records, dataset.class_names)


def test_evaluation_leaves_out_what_cannot_be_read_and_names_it_once(dataset, spoiled):
    lines = []
    left_out = LeftOut(14, log=lines.append)
    for _ in range(2):
        assert_same(batches(spoiled, left_out=left_out), batches(dataset))
    assert len(lines) == 4
    assert all(f"broken_{i}.mp4: not a video, or damaged" in line for i, line in enumerate(sorted(lines)))


def test_training_batches_are_full_although_clips_are_left_out(spoiled):
    steps = steps_per_epoch(spoiled, 3)
    found = batches(spoiled, training=True, epochs=3)
    assert [clip.shape[0] for clip, _ in found] == [3] * 3 * steps == [3] * 12
    assert_same(found, batches(spoiled, training=True, epochs=3, workers=5))
    assert_same(found[steps:], batches(spoiled, training=True, initial_epoch=1, epochs=3))


def test_an_epoch_short_of_clips_takes_those_at_its_front_again_and_no_others(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=4)
    records = [(path, i) if i % 3 else (str(tmp_path / f"{i}.mp4"), i) for i in range(9)]
    found = batches(Dataset(records, range(9)), training=True, batch_size=9, epochs=2)
    for _, labels in found:
        labels = labels.tolist()
        assert sorted(labels[:6]) == [1, 2, 4, 5, 7, 8] and labels[6:] == labels[:3]


def test_too_many_unreadable_clips_stop_it_with_their_names(spoiled):
    left_out = LeftOut(14, max_unreadable=0.2)
    with pytest.raises(tf.errors.OpError, match="broken_1.mp4"):
        batches(spoiled, left_out=left_out)
    with pytest.raises(ValueError, match="3 of 14 clips cannot be read"):
        left_out.check()


def test_a_shard_whose_own_clip_is_broken_takes_another(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=4)
    dataset = Dataset([(path, 0), (path, 1), (path, 2), (str(tmp_path / "no.mp4"), 3)], range(4))
    for index in range(4):
        found = batches(dataset, training=True, batch_size=4, epochs=3, shard=(index, 4))
        assert len(found) == 3 and all(label.tolist()[0] < 3 for _, label in found)


def test_more_clips_than_processors_are_read_at_the_same_time_where_asked(dataset, monkeypatch):
    together = threading.Barrier(8)
    read_frames = pipeline.read_frames

    def wait_for_the_others(*args):
        together.wait(timeout=30)
        return read_frames(*args)

    monkeypatch.setattr(pipeline, "read_frames", wait_for_the_others)
    eight = Dataset(dataset.records[:8], dataset.class_names)
    assert len(batches(eight, batch_size=8, workers=8)) == 1


@pytest.mark.parametrize("training", [False, True])
def test_nothing_readable_is_an_error_and_no_endless_loop(training, tmp_path):
    records = [(str(tmp_path / f"{i}.mp4"), 0) for i in range(5)]
    with pytest.raises(tf.errors.OpError, match="no clip of the data set can be read"):
        batches(Dataset(records, ("a",)), training=training, left_out=LeftOut(5, 1.0))


@pytest.mark.parametrize("augmentation", [{}, AUGMENTATION], ids=["plain", "everything"])
def test_the_number_of_workers_changes_nothing(dataset, augmentation):
    first, second, third = (
        batches(dataset, training=True, epochs=2, workers=workers, **augmentation) for workers in (1, 2, 7)
    )
    assert_same(first, second)
    assert_same(first, third)


@pytest.mark.parametrize("augmentation", [{}, {**AUGMENTATION, "mix_up": 0.0, "cut_mix": 0.0}])
def test_the_shards_of_a_training_batch_together_are_the_batch(dataset, augmentation):
    arguments = {"batch_size": 4, "training": True, "epochs": 2, **augmentation}
    whole = batches(dataset, **arguments)
    shards = [batches(dataset, shard=(index, 2), **arguments) for index in range(2)]
    assert len(whole) == len(shards[0]) == len(shards[1]) == 4
    for batch, *parts in zip(whole, *shards, strict=True):
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), batch[i])


def test_the_shards_of_an_evaluation_give_every_clip_once(dataset):
    shards = [batches(dataset, batch_size=6, shard=(index, 3)) for index in range(3)]
    clips = [np.concatenate([clip for clip, _ in shard]) for shard in shards]
    assert [len(clip) for clip in clips] == [4, 3, 3]
    whole = np.concatenate([clip for clip, _ in batches(dataset)])
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(clip, whole[index::3])


@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_the_paths_of_a_batch_are_those_that_are_read_for_it(spoiled, shard):
    """Also past clips that are left out, and where an epoch goes on from its front."""
    places = {path: i for i, (path, _) in enumerate(spoiled.records)}
    labelled = Dataset([(path, i) for path, i in places.items()], [str(i) for i in places.values()])
    left_out = LeftOut(14)
    arguments = {"batch_size": 4, "seed": 3, "shard": shard}
    found = batches(labelled, training=True, epochs=2, left_out=left_out, **arguments)
    assert len(left_out.reasons) == 4
    for number, (_, labels) in enumerate(found):
        paths = pipeline.batch_paths(
            labelled, number // 3, number % 3, left_out=left_out.reasons, **arguments
        )
        assert [places[path] for path in paths] == labels.tolist()


def test_an_epoch_may_have_fewer_steps_than_there_are_full_batches(dataset):
    whole, fewer = (batches(dataset, training=True, epochs=2, steps=steps) for steps in (3, 2))
    assert len(whole) == 6 and len(fewer) == 4
    assert_same(fewer[:2], whole[:2])
    assert_same(fewer[2:], whole[3:5])


def test_labels_may_be_one_hot(dataset):
    for (_, labels), (_, one_hot) in zip(batches(dataset), batches(dataset, one_hot=True), strict=True):
        np.testing.assert_array_equal(one_hot, np.eye(3, dtype="float32")[labels])


def test_mixing_mixes_clips_and_labels_of_a_batch(dataset):
    plain = batches(dataset, training=True, one_hot=True)
    for strength in ("mix_up", "cut_mix"):
        mixed = batches(dataset, training=True, one_hot=True, **{strength: 1.0})
        assert any((a[0] != b[0]).any() for a, b in zip(plain, mixed, strict=True))
        for _, labels in mixed:
            np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)


def write_jpegs(folder, frames):
    folder.mkdir()
    for i, frame in enumerate(frames):
        jpeg = tf.io.encode_jpeg(frame, quality=100, chroma_downsampling=False).numpy()
        (folder / f"{i + 1:05d}.jpg").write_bytes(jpeg)
    return str(folder)


@pytest.mark.parametrize("flip", ["none", "plain", "labels"])
def test_flipping_mirrors_half_of_the_clips_and_their_labels_only_where_asked(tmp_path, flip):
    frames = np.zeros((6, 32, 32, 3), "uint8")
    frames[:, :, :16] = 200
    path = write_jpegs(tmp_path / "bright_left", frames)
    names = ("pan_left", "pan_right", "wave")
    records = [(path, i % 3) for i in range(60)]
    order = {label: [] for label in range(3)}
    for clips, labels in batches(
        Dataset(records, names), training=True, batch_size=60, flip=flip, scales=(1,), image_size=32
    ):
        bright_left = clips[..., :12, :].mean(axis=(1, 2, 3, 4)) > clips[..., 20:, :].mean(axis=(1, 2, 3, 4))
        for label, left in zip(labels.tolist(), bright_left.tolist(), strict=True):
            order[label].append(left)
    share = {label: np.mean(order[label]) for label in order}
    counts = {label: len(order[label]) for label in order}
    if flip == "none":
        assert share == {0: 1, 1: 1, 2: 1} and counts == {0: 20, 1: 20, 2: 20}
    elif flip == "plain":
        assert counts == {0: 20, 1: 20, 2: 20}
        assert all(0.2 < share[label] < 0.8 for label in share)
    else:
        # A mirrored "pan_left" is a "pan_right"; "wave" stays itself.
        assert counts[2] == 20 and 0.2 < share[2] < 0.8
        assert counts[0] + counts[1] == 40
        assert 0.2 < share[0] < 0.8 and 0.2 < share[1] < 0.8
        assert sum(order[0]) + sum(order[1]) != 40


def test_dense_sampling_takes_its_frames_from_a_window(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=200, height=32, width=32)
    for training in (False, True):
        for clips, _ in batches(
            Dataset([(path, 0)] * 4, ("a",)), training=training, batch_size=4, sampling="dense", image_size=28
        ):
            brightness = ((clips * STD + MEAN) * 255).mean(axis=(2, 3, 4))
            frames = brightness[:, [0, -1]] - 20
            # From the first of 4 frames to the last it is 48 of 200 frames, brightness grows by 1 a frame.
            np.testing.assert_allclose(frames[:, 1] - frames[:, 0], 48, atol=6)
            assert training == (np.ptp(frames[:, 0]) > 6)


def test_frame_folders_are_read_as_videos_are(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (9, 5, 7, 3)).astype("uint8")
    frames = frames.repeat(8, axis=1).repeat(8, axis=2)
    dataset = Dataset([(write_jpegs(tmp_path / "clip", frames), 0)], ("a",))
    clip = batches(dataset, batch_size=1, image_size=35)[0][0][0]
    expected = frames[[1, 3, 5, 7]][:, 2:37, 10:45]
    np.testing.assert_allclose((clip * STD + MEAN) * 255, expected, atol=8)
    assert batches(dataset, batch_size=1, training=True)[0][0].shape == (1, 4, 14, 14, 3)


def test_a_test_set_without_labels_is_refused(dataset):
    unlabelled = Dataset([(path, None) for path, _ in dataset.records], dataset.class_names)
    with pytest.raises(ValueError, match="`dataset` must have labels"):
        batches(unlabelled)


def test_a_model_fits_and_evaluates_on_it(dataset):
    model = STMResNet((1, 1, 1, 1), 16, classes=3)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    arguments = {"batch_size": 4, "num_frames": 4, "image_size": 32}
    training = make_pipeline(dataset, training=True, epochs=2, **arguments)
    history = model.fit(
        training,
        epochs=2,
        steps_per_epoch=steps_per_epoch(dataset, 4),
        validation_data=make_pipeline(dataset, **arguments),
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all() and len(history.history["val_loss"]) == 2
    assert model.predict(make_pipeline(dataset, **arguments), verbose=0).shape == (10, 3)


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
        ({"sampling": "random"}, "'segments', 'dense'. Received: sampling='random'"),
        ({"flip": True}, "'none', 'plain', 'labels'. Received: flip=True"),
        ({"mix_up": 0.2}, "`one_hot` must be true to mix labels. Received: one_hot=False"),
        ({"shard": (2, 2)}, "index less than count. Received: shard=\\(2, 2\\)"),
        ({"shard": (0, 2)}, "a multiple of the number of shards, 2. Received: batch_size=3"),
        ({"workers": 0}, "Received: workers=0"),
        ({"training": True, "steps": 4}, "must be at most 3, the full batches .* Received: steps=4"),
        ({"training": True, "steps": 0}, "Received: steps=0"),
        ({"scales": ()}, "above 0 and at most 1. Received: scales="),
        ({"scales": (1, 1.5)}, "above 0 and at most 1. Received: scales="),
    ],
)
def test_wrong_arguments_are_named(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(dataset, **arguments)
