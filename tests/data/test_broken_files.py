"""Files cut off and damaged at hundreds of places: frames or a `VideoError`, never anything else."""

import pathlib

import numpy as np
import pytest

from keras_stm.data.video import KINDS, VideoError, count_frames, probe, read_frames
from tests.data.videos import copy_video, decode_all, write_video

PLACES = 100


def write_mp4(folder):
    return write_video(folder / "plain.mp4", options={"bf": "2", "g": "10"})


def write_faststart(folder):
    return copy_video(write_mp4(folder), folder / "faststart.mp4", options={"movflags": "faststart"})


def write_webm(folder):
    return write_video(folder / "video.webm", codec="libvpx-vp9", options={"g": "10"})


def write_avi(folder):
    return write_video(folder / "video.avi", codec="mpeg4", options={"bf": "2", "g": "10"})


def write_live_webm(folder):
    """As broadcast: it does not say how long it is."""
    return copy_video(write_webm(folder), folder / "live.webm", options={"live": "1"})


def write_fragmented_mp4(folder):
    flags = {"movflags": "frag_keyframe+empty_moov"}
    return copy_video(write_mp4(folder), folder / "fragmented.mp4", options=flags)


@pytest.fixture
def file(request, tmp_path):
    """A video's bytes, its frames, and the path to write what is left of it to."""
    path = pathlib.Path(request.param(tmp_path))
    return path.read_bytes(), decode_all(str(path)), path


def read_all(path):
    """All frames, or `None` where there is a `VideoError` as there should be."""
    try:
        frames = read_frames(path, range)
    except VideoError as error:
        assert str(error).startswith(f"{path}: ")
        assert error.kind in KINDS
        return None
    assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3
    return frames


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
