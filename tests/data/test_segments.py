import numpy as np
import pytest

from keras_stm.data.segments import (
    center_indices,
    dense_clips,
    dense_indices,
    random_clips,
    train_indices,
)
from tests.data.errors import argument_error

CENTERS = [
    # frames, segments, indices
    (1, 1, [0]),
    (1, 3, [0, 0, 0]),
    (2, 1, [1]),
    (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),
    (4, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
    (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
    (9, 8, [0, 1, 2, 3, 5, 6, 7, 8]),
    (15, 8, [0, 2, 4, 6, 8, 10, 12, 14]),
    (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
    (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),
    (300, 8, [18, 56, 93, 131, 168, 206, 243, 281]),
]


@pytest.mark.parametrize("total_frames,segments,expected", CENTERS)
def test_center_takes_the_middle_of_each_segment(total_frames, segments, expected):
    assert center_indices(total_frames, segments).tolist() == expected


def test_center_of_24_frames_mirrors_in_time():
    # Reversed clips of the embedded data set are sampled at the same moments.
    assert (23 - center_indices(24, 8)[::-1] == center_indices(24, 8)).all()


@pytest.mark.parametrize("total_frames", [1, 3, 7])
def test_train_takes_the_centers_of_videos_shorter_than_the_clip(total_frames):
    indices = train_indices(total_frames, 8, np.random.default_rng(0))
    assert indices.tolist() == center_indices(total_frames, 8).tolist()


def test_train_takes_every_frame_where_there_are_as_many():
    assert train_indices(8, 8, np.random.default_rng(0)).tolist() == list(range(8))


@pytest.mark.parametrize("total_frames,segments", [(16, 8), (23, 8), (24, 8), (300, 8), (10, 3)])
def test_train_draws_every_frame_of_its_segment_and_no_other(total_frames, segments):
    rng = np.random.default_rng(0)
    draws = np.array([train_indices(total_frames, segments, rng) for _ in range(1500)])
    length = total_frames // segments
    for i in range(segments):
        assert set(draws[:, i]) == set(range(i * length, (i + 1) * length))


def test_train_depends_on_the_generator_alone():
    first, again, other = (train_indices(300, 8, np.random.default_rng(i)) for i in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("total_frames", [3, 8, 300])
def test_random_clips_are_drawn_one_by_one_as_in_training(total_frames):
    rng = np.random.default_rng(0)
    expected = [train_indices(total_frames, 8, rng).tolist() for _ in range(10)]
    indices = random_clips(total_frames, 8, 10, np.random.default_rng(0))
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


DENSE = [
    # frames, segments, first frame, distance, last start
    (64, 8, 0, 8, 0),
    (65, 8, 0, 8, 1),
    (66, 8, 1, 8, 2),
    (300, 8, 118, 8, 236),
    (300, 16, 118, 4, 236),
    (300, 7, 118, 9, 236),
    # A video shorter than the window: the clip covers the whole video.
    (63, 8, 0, 7, 0),
    (16, 8, 0, 2, 0),
    (15, 8, 0, 1, 0),
    (8, 8, 0, 1, 0),
    # More segments than the window has frames.
    (300, 100, 100, 1, 200),
    (100, 100, 0, 1, 0),
]


@pytest.mark.parametrize("total_frames,segments,first,distance,last_start", DENSE)
def test_dense_frames_lie_at_equal_distances_in_a_window(total_frames, segments, first, distance, last_start):
    offsets = distance * np.arange(segments)
    assert dense_indices(total_frames, segments).tolist() == (first + offsets).tolist()
    clips = dense_clips(total_frames, segments, 2)
    assert clips.tolist() == [offsets.tolist(), (last_start + offsets).tolist()]


def test_dense_window_starts_anywhere_in_training():
    rng = np.random.default_rng(0)
    draws = np.array([dense_indices(70, 8, rng) for _ in range(200)])
    assert set(draws[:, 0]) == set(range(7))
    assert (np.diff(draws) == 8).all()


@pytest.mark.parametrize("total_frames", [1, 3, 7])
def test_dense_takes_the_centers_of_videos_shorter_than_the_clip(total_frames):
    centers = center_indices(total_frames, 8).tolist()
    assert dense_indices(total_frames, 8).tolist() == centers
    assert dense_indices(total_frames, 8, np.random.default_rng(0)).tolist() == centers
    assert dense_clips(total_frames, 8, 3).tolist() == [centers] * 3


@pytest.mark.parametrize(
    "total_frames,clips,starts",
    [
        (300, 1, [0]),
        (300, 3, [0, 118, 236]),
        (300, 10, [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]),
        # In floating point, the eighth and the last start would be one less.
        (186, 15, [0, 8, 17, 26, 34, 43, 52, 61, 69, 78, 87, 95, 104, 113, 122]),
        (66, 10, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]),
    ],
)
def test_dense_clips_start_at_equal_distances(total_frames, clips, starts):
    assert dense_clips(total_frames, 8, clips)[:, 0].tolist() == starts


@pytest.mark.parametrize(
    "name,value", [("total_frames", 0), ("segments", 0), ("segments", -1), ("segments", 2.5)]
)
def test_wrong_counts_are_named(name, value):
    arguments = {"total_frames": 8, "segments": 8, name: value}
    with argument_error(name, value):
        center_indices(**arguments)
    with argument_error(name, value):
        train_indices(**arguments, rng=np.random.default_rng(0))


@pytest.mark.parametrize("clips", [0, 1.5])
def test_wrong_numbers_of_clips_are_named(clips):
    with argument_error("clips", clips):
        random_clips(30, 8, clips, np.random.default_rng(0))
    with argument_error("clips", clips):
        dense_clips(30, 8, clips)
