"""Files cut off and damaged at hundreds of places: frames or a `VideoError`, never anything else."""

import pathlib

import numpy as np
import pytest

from keras_stm.data.video import count_frames, probe
from tests.data.videos import (
    decode_all,
    read_all,
    write_avi,
    write_faststart,
    write_fragmented_mp4,
    write_live_webm,
    write_mp4,
    write_webm,
)

PLACES = 100


@pytest.fixture
def file(request, tmp_path):
    """A video's bytes, its frames, and the path to write what is left of it to."""
    path = pathlib.Path(request.param(tmp_path))
    return path.read_bytes(), decode_all(str(path)), path


@pytest.mark.parametrize("file", [write_mp4, write_faststart, write_webm, write_avi], indirect=True)
def test_every_cut_is_found(file):
    data, _, path = file
    for length in np.linspace(0, len(data) - 1, PLACES).astype(int):
        path.write_bytes(data[:length])
        assert read_all(path) is None, f"cut to {length} of {len(data)} bytes"


@pytest.mark.parametrize("file", [write_live_webm, write_fragmented_mp4], indirect=True)
def test_what_is_left_of_a_cut_that_cannot_be_found_is_right(file):
    data, expected, path = file
    for length in np.linspace(0, len(data) - 1, PLACES).astype(int):
        path.write_bytes(data[:length])
        frames = read_all(path)
        if frames is not None:
            np.testing.assert_array_equal(frames, expected[: len(frames)])


@pytest.mark.parametrize("file", [write_mp4, write_faststart, write_webm, write_avi], indirect=True)
@pytest.mark.parametrize("size", [1, 40])
def test_damage_anywhere_gives_frames_or_an_error(file, size):
    data, expected, path = file
    rng = np.random.default_rng(size)
    num_read = 0
    for start in np.linspace(0, len(data) - size, PLACES).astype(int):
        damaged = np.frombuffer(data, "uint8").copy()
        damaged[start : start + size] ^= rng.integers(1, 256, size, "uint8")
        path.write_bytes(damaged.tobytes())
        frames = read_all(path)
        if frames is not None:
            num_read += 1
            assert len(frames) == count_frames(path) == probe(path).num_frames
    # Much of a file may be damaged unnoticed, and not all.
    assert 0 < num_read < PLACES
