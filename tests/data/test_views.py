"""The views of the test protocols, also compared with a plain loop that decodes all frames."""

import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_stm.data import Dataset, LeftOut, VideoError, load_clip, make_pipeline, make_views, views
from keras_stm.data.views import read_views
from keras_stm.preprocessing import MEAN, STD
from tests.data.errors import argument_error
from tests.data.videos import decode_all
from tests.reference.backend import BACKEND

# 1e-5 of the range of values, which is -2.2 to 2.7.
ATOL = 5e-5


def clips_of(dataset, *args, **arguments):
    found = make_views(dataset, *args, **{"num_frames": 4, "image_size": 14, **arguments})
    return [clips for _, _, clips in found]


def resize(clip, height, width):
    return tf.image.resize(np.asarray(clip, "float32"), (height, width), antialias=True).numpy()


def plain_paper(path, seed, index, num_frames=4, image_size=14, clips=10):
    """Returns the views of the paper's protocol (section 4.2) by a plain loop over all decoded frames."""
    frames = decode_all(path)
    height, width = frames.shape[1:3]
    size = image_size * 256 / 224
    assert size == int(size)
    size = int(size)
    scaled = (size, round(width * size / height)) if height < width else (round(height * size / width), size)
    rng = np.random.default_rng((seed, index))
    found = []
    for _ in range(clips):
        length = len(frames) // num_frames
        chosen = [i * length + offset for i, offset in enumerate(rng.integers(length, size=num_frames))]
        clip = resize(frames[chosen], *scaled)
        long = max(scaled)
        for offset in (0, (long - size) // 2, long - size):
            crop = clip[:, :, offset:][:, :, :size] if scaled[0] == size else clip[:, offset:][:, :size]
            found.append((resize(crop, image_size, image_size) / 255 - MEAN) / STD)
    return np.stack(found)


def test_the_efficient_protocol_is_what_the_pipeline_evaluates_on(dataset):
    pipeline = make_pipeline(dataset, batch_size=10, num_frames=4, image_size=14)
    ((expected, labels),) = pipeline.as_numpy_iterator()
    found = list(make_views(dataset, num_frames=4, image_size=14))
    assert [path for path, _, _ in found] == [path for path, _ in dataset.records]
    assert [label for _, label, _ in found] == labels.tolist()
    for (_, _, clips), clip in zip(found, expected, strict=True):
        assert clips.shape == (1, 4, 14, 14, 3) and clips.dtype == np.float32
        np.testing.assert_allclose(clips[0], clip, atol=ATOL)


def test_load_clip_gives_what_evaluation_does(dataset):
    for (path, _), clips in zip(dataset.records, clips_of(dataset), strict=True):
        loaded = load_clip(path, num_frames=4, image_size=14)
        assert isinstance(loaded, np.ndarray) and loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, clips)


@pytest.mark.every_backend
def test_the_paper_protocol_equals_a_plain_loop(dataset):
    # Height x width: 64 x 48, 48 x 48, and 32 x 48 twice. The last video is shorter than two clips.
    few = Dataset([dataset.records[i] for i in (2, 4, 6, 0)], dataset.class_names)
    for index, found in enumerate(clips_of(few, "paper", seed=5)):
        assert found.shape == (30, 4, 14, 14, 3) and found.dtype == np.float32
        np.testing.assert_allclose(found, plain_paper(few.records[index][0], 5, index), atol=ATOL)


@pytest.mark.every_backend
def test_the_paper_protocol_equals_a_plain_loop_where_videos_are_enlarged(dataset):
    few = Dataset(dataset.records[3:4], dataset.class_names)
    (found,) = clips_of(few, "paper", clips=2, image_size=56)
    expected = plain_paper(few.records[0][0], 0, 0, image_size=56, clips=2)
    # TensorFlow's rounding errors are larger if antialiasing is on but no side shrinks.
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_three_crops_lie_at_both_ends_and_the_middle_of_the_longer_side():
    ramp = np.arange(100, dtype="uint8")
    lying = np.broadcast_to(ramp[None, None, :, None], (2, 50, 100, 3))
    square = np.broadcast_to(ramp[None, None, :50, None], (2, 50, 50, 3))
    for frames, middles in ((lying, (24.5, 49.5, 74.5)), (square, (24.5, 24.5, 24.5))):
        for crops in (
            read_views(frames.copy(), 2, 28, crops=3),
            read_views(frames.swapaxes(1, 2).copy(), 2, 28, crops=3),
        ):
            brightness = ((crops * STD + MEAN) * 255).mean(axis=(1, 2, 3, 4))
            np.testing.assert_allclose(brightness, middles, atol=0.6)


def test_dense_clips_are_windows_from_first_to_last():
    frames = np.broadcast_to(np.arange(200, dtype="uint8")[:, None, None, None], (200, 8, 8, 3)).copy()

    def indices(**arguments):
        found = read_views(frames, 4, 7, sampling="dense", **arguments)
        return np.round(((found * STD + MEAN) * 255).mean(axis=(2, 3, 4))).astype(int).tolist()

    assert indices() == [[68, 84, 100, 116]]
    assert indices(clips=3) == [[0, 16, 32, 48], [68, 84, 100, 116], [136, 152, 168, 184]]
    assert indices(clips=2, crops=3) == [[0, 16, 32, 48]] * 3 + [[136, 152, 168, 184]] * 3


def test_frames_as_an_array_give_what_their_file_does(dataset):
    # This file must be decoded to the end, as its time stamps do not tell the order of frames.
    path, _ = dataset.records[2]
    rngs = [np.random.default_rng(3) for _ in range(2)]
    first, second = (
        read_views(source, 4, 14, clips=2, crops=3, rng=rng)
        for source, rng in zip((path, decode_all(path)), rngs, strict=True)
    )
    np.testing.assert_array_equal(first, second)


def test_a_video_shorter_than_a_clip_repeats_its_frames():
    frames = np.array([10, 200], "uint8")[:, None, None, None] * np.ones((1, 8, 8, 3), "uint8")
    for found in (read_views(frames, 4, 7), read_views(frames, 4, 7, clips=2)):
        brightness = ((found * STD + MEAN) * 255).mean(axis=(2, 3, 4))
        np.testing.assert_allclose(brightness, [[10, 10, 200, 200]] * len(found), atol=0.01)


def test_random_clips_depend_on_the_seed_and_the_video_alone(dataset):
    arguments = {"clips": 2, "crops": 1}
    first = clips_of(dataset, seed=1, workers=1, **arguments)
    for again in (
        clips_of(dataset, seed=1, workers=1, **arguments),
        clips_of(dataset, seed=1, workers=5, **arguments),
    ):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
    other = clips_of(dataset, seed=2, **arguments)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    same_video = Dataset([dataset.records[9]] * 2, dataset.class_names)
    one, two = clips_of(same_video, seed=1, **arguments)
    assert (one != two).any()


def test_each_iteration_gives_the_same(dataset):
    found = make_views(dataset, clips=2, num_frames=4, image_size=14, frames="shuffled")
    for (_, _, a), (_, _, b) in zip(found, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_altered_frames_are_those_of_the_ordered_clips_in_another_order(dataset):
    few = Dataset(dataset.records[7:], dataset.class_names)
    views = {"clips": 2, "crops": 3}
    ordered = clips_of(few, **views)
    for clips, altered in zip(ordered, clips_of(few, frames="reversed", **views), strict=True):
        np.testing.assert_array_equal(altered, np.flip(clips, axis=1))
        assert altered.flags.c_contiguous
    for clips, altered in zip(ordered, clips_of(few, frames="still", **views), strict=True):
        np.testing.assert_array_equal(altered, clips[:, [2, 2, 2, 2]])
    moved = 0
    shuffled = clips_of(few, frames="shuffled", **views)
    for clips, altered in zip(ordered, shuffled, strict=True):
        for before, after in zip(clips, altered, strict=True):
            # Each frame of one clip is also in the other.
            matches = (before[:, None] == after[None]).all(axis=(2, 3, 4))
            assert matches.any(axis=0).all() and matches.any(axis=1).all()
            moved += (before != after).any()
    assert moved > sum(map(len, ordered)) / 2
    for a, b in zip(shuffled, clips_of(few, frames="shuffled", workers=3, **views), strict=True):
        np.testing.assert_array_equal(a, b)


def test_broken_files_are_left_out_named_once_and_change_no_other(dataset, tmp_path):
    records = list(dataset.records)
    for place in (0, 4, 11):
        (tmp_path / f"{place}.mp4").write_bytes(b"no video")
        records.insert(place, (str(tmp_path / f"{place}.mp4"), 1))
    lines = []
    spoiled = make_views(
        Dataset(records, dataset.class_names),
        num_frames=4,
        image_size=14,
        left_out=LeftOut(13, log=lines.append),
    )
    assert len(spoiled) == 13
    for _ in range(2):
        found = list(spoiled)
        assert [path for path, _, _ in found] == [path for path, _ in dataset.records]
        for (_, _, clips), expected in zip(found, clips_of(dataset), strict=True):
            np.testing.assert_array_equal(clips, expected)
    assert sorted(lines) == sorted(f"Skipped: {reason}" for reason in spoiled.left_out.reasons.values())
    assert len(lines) == 3 and "0.mp4: " in lines[0]


def test_too_many_broken_files_stop_it_with_their_names(tmp_path):
    broken = Dataset([(str(tmp_path / f"{i}.mp4"), 0) for i in range(3)], ("a",))
    with pytest.raises(ValueError, match=r"\n.*0\.mp4"):
        clips_of(broken, workers=1)


def test_a_file_that_cannot_be_read_is_an_error_where_it_is_the_only_one(tmp_path):
    with pytest.raises(VideoError, match="nothing.mp4"):
        load_clip(tmp_path / "nothing.mp4")


def test_no_more_videos_are_read_ahead_than_twice_the_workers(dataset, monkeypatch):
    read, lock, original = [], threading.Lock(), views.read_views

    def count(path, **arguments):
        with lock:
            read.append(path)
        return original(path, **arguments)

    monkeypatch.setattr(views, "read_views", count)
    found = iter(make_views(dataset, num_frames=4, image_size=14, workers=2))
    for given in range(1, 4):
        next(found)
        assert len(read) <= given + 4
    found.close()
    assert len(read) <= 7


def test_views_and_crops_can_be_set_one_by_one(dataset):
    shapes = {
        (protocol, clips, crops): make_views(dataset, protocol, clips=clips, crops=crops).options
        for protocol in ("efficient", "paper")
        for clips in (None, 2)
        for crops in (None, 1, 3)
    }
    found = {key: (options["clips"], options["crops"]) for key, options in shapes.items()}
    assert found["efficient", None, None] == (1, 1) and found["paper", None, None] == (10, 3)
    assert found["efficient", None, 3] == (1, 3) and found["paper", 2, None] == (2, 3)
    assert found["paper", 2, 1] == (2, 1) and found["efficient", 2, None] == (2, 1)
    assert clips_of(dataset, clips=2, crops=3)[0].shape[0] == 6


@pytest.mark.parametrize(
    "name,value",
    [
        ("protocol", "fast"),
        ("frames", "backwards"),
        ("clips", 0),
        ("crops", 2),
        ("num_frames", 0),
        ("image_size", 1.5),
        ("sampling", "random"),
        ("seed", -1),
        ("seed", None),
        ("workers", 0),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_read(name, value):
    with argument_error(name, value):
        make_views(Dataset([("nowhere.mp4", 0)], ("a",)), **{name: value})


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), "uint8"),
        np.zeros((8, 8, 3), "uint8"),
        np.zeros((2, 8, 8, 1), "uint8"),
        np.zeros((2, 8, 8, 3), "float32"),
    ],
)
def test_frames_that_are_no_video_are_refused(frames):
    with argument_error("source", frames):
        read_views(frames)


def test_a_clip_with_another_number_of_frames_than_its_list_states_is_left_out(dataset):
    (first, _), (second, _), *_ = dataset.records
    stated = dataclasses.replace(dataset, stated_frames={first: 99, second: len(decode_all(second))})
    found = make_views(stated, num_frames=4, image_size=14)
    assert [path for path, _, _ in found] == [path for path, _ in dataset.records[1:]]
    assert list(found.left_out.reasons) == [first]


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "jax", reason="only JAX compiles a function for each size")
def test_jax_compiles_nothing_for_a_new_size(caplog):
    import jax

    frames = np.zeros((3, 60, 81, 3), "uint8")
    with jax.log_compiles(), caplog.at_level("WARNING"):
        read_views(frames, 2, 14, crops=3)
        read_views(frames[:, :, 10:], 2, 14)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]
