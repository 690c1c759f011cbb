import numpy as np
import pytest

from keras_stm.data.segments import center_indices, train_indices

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


@pytest.mark.parametrize(
    "arguments,message",
    [
        ((0, 8), "`total_frames` must be a positive integer. Received: total_frames=0"),
        ((8, 0), "`segments` must be a positive integer. Received: segments=0"),
        ((8, -1), "Received: segments=-1"),
        ((8, 2.5), "Received: segments=2.5"),
    ],
)
def test_wrong_counts_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        center_indices(*arguments)
    with pytest.raises(ValueError, match=message):
        train_indices(*arguments, np.random.default_rng(0))
