"""The clips of a campaign and batches of them."""

import itertools

import numpy as np
import pytest

from keras_stm.data import arrow_of_time
from reproduction import data


@pytest.fixture(scope="module")
def clips():
    return data.make_clips("test", 8, 32)


def test_no_two_splits_share_a_clip_and_the_clips_are_the_harder_variant(clips):
    splits = [clips, *(data.make_clips(split, 8, 32) for split in ("train", "validation"))]
    frames = np.concatenate([split.frames for split in splits])
    assert len(np.unique(frames.reshape(24, -1), axis=0)) == 24
    size = clips.frames.shape[2]
    clip = arrow_of_time.make_clip(data.CLASS_NAMES[3], (2, 3), True, 32, size)
    np.testing.assert_array_equal(clips.frames[3], clip.frames)
    assert data.SHAPES[clips.appearance[3]] == clip.shape


def test_training_batches_depend_on_seed_and_epoch_alone(clips):
    def epochs(seed):
        batches = data.training_batches([clips], 4, 32, 4, seed)
        return [list(itertools.islice(batches, 2)) for _ in range(2)]

    (first, second), (again, _), (other, _) = epochs(0), epochs(0), epochs(1)
    np.testing.assert_array_equal(first[1][0], again[1][0])
    for different in (second, other):
        assert not np.array_equal(first[1][0], different[1][0])
    orders = [np.concatenate([labels["motion"] for _, labels in epoch]).tolist() for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8))
    assert orders[0] != orders[1]


def test_each_epoch_has_its_own_clips_and_leaves_out_those_that_fill_no_batch(clips):
    others = clips._replace(motion=clips.motion + 100)
    batches = data.training_batches([clips, others], 4, 32, 3, 0)
    labels = [labels["motion"] for _, labels in itertools.islice(batches, 6)]
    assert [(part >= 100).all() for part in labels] == [False, False, True, True, True, True]
    assert all(len(part) == 3 for part in labels)
    assert len(np.unique(np.concatenate(labels[:2]))) == 6


def test_a_training_clip_holds_a_frame_of_each_segment_in_order_cropped_alike():
    # The channels of every pixel are its frame, row and column.
    size = 40
    row, column = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    frames = np.stack([np.stack([np.full_like(row, t), row, column], -1) for t in range(32)])
    clips = data.Clips(frames[None].astype("uint8"), np.zeros(1, int), np.zeros(1, int))
    batch, _ = next(data.training_batches([clips], 8, 32, 1, 0))
    assert batch.shape == (1, 8, 32, 32, 3)
    prepared = data.prepare(frames[None].astype("uint8"), False)
    value = {channel: np.unique(prepared[..., channel]) for channel in range(3)}
    times = np.searchsorted(value[0], batch[0, :, 0, 0, 0])
    assert [time // 4 for time in times] == list(range(8))
    for channel in (1, 2):
        places = np.searchsorted(value[channel], batch[0, ..., channel])
        assert np.ptp(places) == 31 and (places == places[0]).all()


def test_evaluation_gives_every_clip_and_its_exact_reversal_with_the_partners_label(clips):
    batches = data.EvaluationBatches(clips, 8, 32, 6)
    seen, labels = zip(*(batches[i] for i in range(len(batches))), strict=True)
    seen = np.concatenate(seen)
    labels = {task: np.concatenate([label[task] for label in labels]) for task in labels[0]}
    assert seen.shape == (16, 8, 32, 32, 3)
    np.testing.assert_array_equal(seen[1::2], seen[::2, ::-1])
    names = [data.CLASS_NAMES[label] for label in labels["motion"]]
    assert [arrow_of_time.REVERSED[name] for name in names[::2]] == names[1::2]
    np.testing.assert_array_equal(labels["appearance"][::2], labels["appearance"][1::2])
    for task in labels:
        np.testing.assert_array_equal(batches.labels[task], labels[task])


def test_the_fourth_channel_is_the_change_of_brightness_to_the_next_frame(clips):
    frames = clips.frames[:2, :4]
    prepared = data.prepare(frames, True)
    assert prepared.shape[-1] == 4 and prepared.dtype == "float32"
    np.testing.assert_array_equal(prepared[..., :3], data.prepare(frames, False))
    brightness = prepared[..., :3].mean(axis=-1)
    np.testing.assert_allclose(prepared[:, :-1, ..., 3], np.diff(brightness, axis=1), atol=1e-6)
    assert not prepared[:, -1, ..., 3].any()
    assert prepared[:, 0, ..., 3].any()
