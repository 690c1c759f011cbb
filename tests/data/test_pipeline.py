import dataclasses
import itertools
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, LeftOut, class_balance, make_pipeline, pipeline, steps_per_epoch
from keras_stm.preprocessing import MEAN, STD
from tests.data.errors import argument_error
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


@pytest.fixture(scope="module")
def evaluated(dataset):
    return batches(dataset)


@pytest.fixture(scope="module")
def trained(dataset):
    """The batches of three epochs, read by one worker."""
    return batches(dataset, training=True, epochs=3, workers=1)


def test_evaluation_gives_every_clip_once_in_order(dataset, evaluated):
    found = evaluated
    assert [clip.shape for clip, _ in found] == [(3, 4, 14, 14, 3)] * 3 + [(1, 4, 14, 14, 3)]
    labels = np.concatenate([label for _, label in found])
    assert labels.tolist() == [label for _, label in dataset.records]
    assert labels.dtype == np.int32 and found[0][0].dtype == np.float32
    assert_same(found, batches(dataset, workers=7))


def test_evaluation_is_centers_short_side_center_crop_and_normalisation(dataset, evaluated):
    path = dataset.records[2][0]
    frames = decode_all(path)
    assert frames.shape == (13, 64, 48, 3)
    clip = tf.image.resize(frames[[1, 4, 8, 11]].astype("float32"), (21, 16), antialias=True)
    expected = (clip.numpy()[:, 3:17, 1:15] / 255 - MEAN) / STD
    np.testing.assert_allclose(evaluated[0][0][2], expected, atol=1e-5)


def test_training_with_another_seed_has_other_batches(dataset, trained):
    other = batches(dataset, training=True, seed=1)
    assert all((a[0] != b[0]).any() for a, b in zip(trained, other, strict=False))
    assert any((a[1] != b[1]).any() for a, b in zip(trained, other, strict=False))


@pytest.mark.parametrize("augmentation", [{}, AUGMENTATION], ids=["plain", "everything"])
def test_training_resumes_with_the_batches_it_would_have_seen_whatever_the_number_of_workers(
    dataset, trained, augmentation
):
    whole = trained
    if augmentation:
        whole = batches(dataset, training=True, epochs=3, workers=1, **augmentation)
    assert len(whole) == 3 * steps_per_epoch(dataset, 3) == 9
    resumed = batches(dataset, training=True, initial_epoch=2, epochs=3, workers=7, **augmentation)
    assert_same(whole[6:], resumed)


def test_training_shuffles_each_epoch_without_repeats(tmp_path):
    records = [(write_video(tmp_path / "video.mp4", num_frames=4), i) for i in range(20)]
    found = batches(Dataset(records, ()), training=True, epochs=3, batch_size=6)
    labels = np.reshape([label for _, label in found], (3, 18))
    assert all(len(set(epoch)) == 18 for epoch in labels.tolist())
    assert len({tuple(epoch) for epoch in labels.tolist()}) == 3
    assert (labels[0] != np.sort(labels[0])).any()


def test_training_keeps_clip_and_label_together_and_draws_other_frames_and_crops_each_epoch(tmp_path):
    records = [
        (write_video(tmp_path / f"{label}.mp4", num_frames=20, brightness=50 * label), label)
        for label in range(5)
    ]
    clips = {label: [] for label in range(5)}
    for clip, label in batches(Dataset(records, ()), training=True, batch_size=5, epochs=4):
        brightness = ((clip * STD + MEAN) * 255).mean(axis=(1, 2, 3, 4)) - 20
        assert np.round(brightness / 50).astype(int).tolist() == label.tolist()
        for i, place in enumerate(label.tolist()):
            clips[place].append(clip[i])
    for epochs in clips.values():
        assert len(epochs) == 4
        for a, b in itertools.combinations(epochs, 2):
            assert (a != b).any()


def test_frames_and_crops_of_a_video_depend_on_the_seed_and_the_place(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=40)
    one_video = Dataset([(path, 0)] * 4, ("a",))
    ((first, _),), ((second, _),) = (
        batches(one_video, training=True, batch_size=4, seed=seed) for seed in (0, 1)
    )
    for a, b in itertools.combinations([*first, *second], 2):
        assert (a != b).any()


@pytest.fixture
def spoiled(dataset, tmp_path):
    """The data set with four unreadable videos added."""
    records = list(dataset.records)
    for i, place in enumerate((0, 4, 5, 13)):
        broken = tmp_path / f"broken_{i}.mp4"
        broken.write_bytes(b"no video")
        records.insert(place, (str(broken), 2))
    return Dataset(records, dataset.class_names)


def test_evaluation_leaves_out_what_cannot_be_read_and_names_it_once(spoiled, evaluated):
    lines = []
    left_out = LeftOut(14, log=lines.append)
    for _ in range(2):
        assert_same(batches(spoiled, left_out=left_out), evaluated)
    assert len(lines) == 4
    assert all(f"broken_{i}.mp4: not a video, or damaged" in line for i, line in enumerate(sorted(lines)))


def test_training_batches_are_full_although_clips_are_left_out(spoiled):
    steps = steps_per_epoch(spoiled, 3)
    found = batches(spoiled, training=True, epochs=2)
    assert [clip.shape[0] for clip, _ in found] == [3] * 2 * steps == [3] * 8
    assert_same(found[steps:], batches(spoiled, training=True, initial_epoch=1, epochs=2, workers=5))


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
    dataset = Dataset([(path, 0), (str(tmp_path / "no.mp4"), 1)], range(2))
    for index in range(2):
        found = batches(dataset, training=True, batch_size=2, epochs=3, shard=(index, 2))
        assert [label.tolist() for _, label in found] == [[0]] * 3


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
    records = [(str(tmp_path / f"{i}.mp4"), 0) for i in range(3)]
    with pytest.raises(tf.errors.OpError, match="no clip of the data set can be read"):
        batches(Dataset(records, ("a",)), training=training, left_out=LeftOut(3, 1.0))


def test_the_shards_of_a_training_batch_together_are_the_batch(dataset):
    # Without MixUp and CutMix, which mix only clips of the same shard.
    augmentation = {"flip": "plain", "random_erasing": 0.5, "sampling": "dense"}
    arguments = {"batch_size": 4, "training": True, "epochs": 2, **augmentation}
    whole = batches(dataset, **arguments)
    shards = [batches(dataset, shard=(index, 2), **arguments) for index in range(2)]
    assert len(whole) == len(shards[0]) == len(shards[1]) == 4
    for batch, *parts in zip(whole, *shards, strict=True):
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), batch[i])


def test_the_shards_of_an_evaluation_give_every_clip_once(dataset, evaluated):
    shards = [batches(dataset, batch_size=6, shard=(index, 2)) for index in range(2)]
    clips = [np.concatenate([clip for clip, _ in shard]) for shard in shards]
    assert [len(clip) for clip in clips] == [5, 5]
    whole = np.concatenate([clip for clip, _ in evaluated])
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(clip, whole[index::2])


def test_sampled_batches_are_the_same_for_a_resumed_run_any_workers_and_all_shards_together(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=12)
    dataset = Dataset([(path, 0)] * 8 + [(path, 1)] * 2, ("a", "b"))
    arguments = {"batch_size": 4, "training": True, "epochs": 3, "sampling_weights": "balanced"}
    whole = batches(dataset, workers=1, **arguments)
    labels = np.reshape([label for _, label in whole], (3, 8))
    # Two of ten clips are dropped with the last batch.
    assert all(3 <= count <= 5 for count in labels.sum(axis=1))
    assert len({tuple(epoch) for epoch in labels.tolist()}) == 3
    # A clip that comes again has other frames and another crop.
    assert len({clip.tobytes() for clips, _ in whole for clip in clips}) == 24
    assert_same(batches(dataset, workers=5, **{**arguments, "initial_epoch": 1}), whole[2:])
    shards = [batches(dataset, shard=(index, 2), **arguments) for index in range(2)]
    for batch, *parts in zip(whole, *shards, strict=True):
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), batch[i])


@pytest.mark.parametrize("sampling_weights", class_balance.SAMPLING_WEIGHTS)
def test_the_paths_of_a_batch_are_those_that_are_read_for_it(spoiled, sampling_weights):
    """Also after skipped clips, and if an epoch starts again with its first clips."""
    places = {path: i for i, (path, _) in enumerate(spoiled.records)}
    labelled = Dataset([(path, i) for path, i in places.items()], [str(i) for i in places.values()])
    left_out = LeftOut(14)
    arguments = {"batch_size": 4, "seed": 3, "shard": (1, 2), "sampling_weights": sampling_weights}
    found = batches(labelled, training=True, epochs=2, left_out=left_out, **arguments)
    assert len(left_out.reasons) >= 3
    for number, (_, labels) in enumerate(found):
        paths = pipeline.batch_paths(
            labelled, number // 3, number % 3, left_out=left_out.reasons, **arguments
        )
        assert [places[path] for path in paths] == labels.tolist()


def test_an_epoch_may_have_fewer_steps_than_there_are_full_batches(dataset, trained):
    fewer = batches(dataset, training=True, epochs=2, steps=2)
    assert len(fewer) == 4
    assert_same(fewer[:2], trained[:2])
    assert_same(fewer[2:], trained[3:5])


def test_labels_may_be_one_hot(dataset, evaluated):
    for (_, labels), (_, one_hot) in zip(evaluated, batches(dataset, one_hot=True), strict=True):
        np.testing.assert_array_equal(one_hot, np.eye(3, dtype="float32")[labels])


def test_mixing_mixes_clips_and_labels_of_a_batch_by_other_weights_in_each(dataset):
    labelled = Dataset([(path, i) for i, (path, _) in enumerate(dataset.records)], tuple("abcdefghij"))
    arguments = {"batch_size": 5, "training": True, "one_hot": True}
    plain = batches(labelled, **arguments)
    for strength in ("mix_up", "cut_mix"):
        mixed = batches(labelled, epochs=2, **arguments, **{strength: 1.0})
        assert all((a[0] != b[0]).any() for a, b in zip(plain, mixed, strict=False))
        for _, labels in mixed:
            np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        assert len(mixed) == len({np.sort(labels, axis=None).tobytes() for _, labels in mixed}) == 4


def test_colours_of_a_clip_depend_on_the_seed_the_epoch_and_the_place(tmp_path):
    # The video has one frame and one possible crop, so only colours can differ.
    path = write_video(tmp_path / "video.mp4", num_frames=1, height=32, width=32)
    one_video = Dataset([(path, 0)] * 2, ("a",))
    clips = {
        clip.tobytes()
        for seed in (0, 1)
        for batch, _ in batches(
            one_video, training=True, batch_size=2, epochs=2, seed=seed, scales=(1,), color_jitter=0.5
        )
        for clip in batch
    }
    assert len(clips) == 2 * 2 * 2


def write_jpegs(folder, frames):
    folder.mkdir()
    for i, frame in enumerate(frames):
        jpeg = tf.io.encode_jpeg(frame, quality=100, chroma_downsampling=False).numpy()
        (folder / f"{i + 1:05d}.jpg").write_bytes(jpeg)
    return str(folder)


@pytest.mark.parametrize("flip", ["none", "plain", "labels"])
def test_flipping_mirrors_half_of_the_clips_and_their_labels_only_where_asked(tmp_path, flip):
    names = ("pan_left", "pan_right", "wave")
    # Bright on the left, with another brightness for each class.
    frames = np.zeros((3, 6, 32, 32, 3), "uint8")
    frames[..., :16, :] = np.reshape([100, 150, 200], (3, 1, 1, 1, 1))
    paths = [write_jpegs(tmp_path / name, frames[label]) for label, name in enumerate(names)]
    dataset = Dataset([(paths[i % 3], i % 3) for i in range(60)], names)
    ((clips, labels),) = batches(
        dataset, training=True, batch_size=60, flip=flip, scales=(1,), image_size=32, num_frames=2
    )
    left, right = (
        (side * STD + MEAN).mean(axis=(1, 2, 3, 4)) * 255 for side in (clips[..., :12, :], clips[..., 20:, :])
    )
    mirrored = right > left
    source = np.round((np.maximum(left, right) - 100) / 50).astype(int)
    assert np.bincount(source).tolist() == [20] * 3
    for label in range(3):
        share = mirrored[source == label].mean()
        assert share == 0 if flip == "none" else 0.2 < share < 0.8
    # A mirrored "pan_left" is a "pan_right"; "wave" keeps its label.
    twin = np.array([1, 0, 2])[source]
    np.testing.assert_array_equal(labels, np.where(mirrored, twin, source) if flip == "labels" else source)


def test_dense_sampling_takes_its_frames_from_a_window(tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=200, height=32, width=32)
    for training in (False, True):
        for clips, _ in batches(
            Dataset([(path, 0)] * 4, ("a",)), training=training, batch_size=4, sampling="dense", image_size=28
        ):
            brightness = ((clips * STD + MEAN) * 255).mean(axis=(2, 3, 4))
            frames = brightness[:, [0, -1]] - 20
            # The first and the last of 4 frames are 48 frames apart. Brightness grows by 1 a frame.
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
    with pytest.raises(ValueError, match="`dataset`"):
        batches(unlabelled)


@pytest.mark.every_backend
def test_a_model_fits_and_evaluates_on_it(dataset):
    model = keras.Sequential([keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    arguments = {"batch_size": 4, "num_frames": 4, "image_size": 14}
    training = make_pipeline(dataset, training=True, epochs=2, **arguments)
    # Shapes are known before anything is read.
    assert [spec.shape.as_list() for spec in training.element_spec] == [[4, 4, 14, 14, 3], [4]]
    assert training.cardinality() == 4
    evaluation = make_pipeline(dataset, **arguments)
    assert evaluation.element_spec[0].shape.as_list() == [None, 4, 14, 14, 3]
    history = model.fit(
        training,
        epochs=2,
        steps_per_epoch=steps_per_epoch(dataset, 4),
        validation_data=evaluation,
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    expected = [(clip.numpy(), label.numpy()) for clip, label in evaluation]
    loss = sum(model.evaluate(*batch, verbose=0) * len(batch[1]) for batch in expected) / 10
    np.testing.assert_allclose(history.history["val_loss"][-1], loss, rtol=1e-5)


@pytest.mark.parametrize(
    "name,value,others",
    [
        ("batch_size", 0, {}),
        ("num_frames", 0, {}),
        ("image_size", -1, {}),
        ("batch_size", 11, {"training": True}),
        ("initial_epoch", 2, {"training": True, "epochs": 2}),
        ("initial_epoch", 0, {"epochs": 2}),
        ("sampling", "random", {}),
        ("sampling_weights", "equal", {}),
        ("flip", True, {}),
        ("one_hot", False, {"mix_up": 0.2}),
        ("history", 1, {}),
        ("history", 5, {"training": True}),
        ("batch_size", 2, {"training": True, "history": 1, "shard": (0, 2)}),
        ("shard", (2, 2), {}),
        ("batch_size", 3, {"shard": (0, 2)}),
        ("workers", 0, {}),
        ("steps", 4, {"training": True}),
        ("steps", 0, {"training": True}),
        ("scales", (), {}),
        ("scales", (1, 1.5), {}),
    ],
)
def test_wrong_arguments_are_named(dataset, name, value, others):
    with argument_error(name, value):
        batches(dataset, **{name: value}, **others)


def test_history_is_the_end_of_another_clip_of_the_batch_in_front_of_each(dataset, trained):
    found = batches(dataset, training=True, epochs=3, history=3)
    for (clips, labels), (alone, labels_alone) in zip(found, trained, strict=True):
        assert clips.shape == (3, 3 + 4, 14, 14, 3)
        np.testing.assert_array_equal(clips[:, 3:], alone)
        np.testing.assert_array_equal(labels, labels_alone)
        np.testing.assert_array_equal(clips[:, :3], alone[[2, 0, 1], 1:])


def test_a_clip_with_another_number_of_frames_than_its_list_states_is_left_out(dataset, evaluated):
    path, _ = dataset.records[0]
    left_out = LeftOut(10)
    found = batches(dataclasses.replace(dataset, stated_frames={path: 99}), left_out=left_out)
    assert list(left_out.reasons) == [path] and "the list states 99" in left_out.reasons[path]
    np.testing.assert_array_equal(found[0][0][:2], evaluated[0][0][1:])
