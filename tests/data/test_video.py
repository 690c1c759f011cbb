import os
import pathlib

import av
import numpy as np
import pytest

from keras_stm.data.video import VIDEO_EXTENSIONS, VideoError, count_frames, read_frames
from tests.data.videos import KINDS, decode_all, write_audio, write_video

REAL_CLIPS = pathlib.Path(__file__).parents[3] / "shared" / "real_clips"


@pytest.fixture(params=KINDS)
def video(request, tmp_path):
    codec, options, extension = KINDS[request.param]
    return write_video(tmp_path / f"video{extension}", codec=codec, options=options)


def test_frames_are_those_of_decoding_everything(video):
    frames = decode_all(video)
    assert count_frames(video) == len(frames) == 30
    for indices in [range(30), [0], [29], [13], [1, 4, 16, 22], [28, 29]]:
        read = read_frames(video, indices)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, frames[list(indices)])


def test_indices_may_repeat_and_come_in_any_order(video):
    indices = np.array([7, 7, 29, 0, 3, 0])
    np.testing.assert_array_equal(read_frames(video, indices), decode_all(video)[indices])


def test_indices_may_be_a_function_of_the_number_of_frames(video):
    np.testing.assert_array_equal(
        read_frames(video, lambda total_frames: [total_frames - 1, 0]), decode_all(video)[[29, 0]]
    )


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="needs the recorded clips in ../shared")
def test_frames_of_recorded_clips_are_those_of_decoding_everything():
    clips = [p for p in REAL_CLIPS.iterdir() if p.suffix in VIDEO_EXTENSIONS]
    assert clips
    for path in clips:
        frames = decode_all(str(path))
        assert count_frames(path) == len(frames)
        indices = np.linspace(0, len(frames) - 1, 8).astype(int)
        np.testing.assert_array_equal(read_frames(path, indices), frames[indices])


@pytest.mark.parametrize("degrees,turns", [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied(tmp_path, degrees, turns):
    path = write_video(tmp_path / "plain.mp4", num_frames=3)
    rotated = str(tmp_path / "rotated.mp4")
    with av.open(path) as source, av.open(rotated, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with av.open(rotated) as container:
        assert (next(container.decode(video=0)).rotation - degrees) % 360 == 0
    np.testing.assert_array_equal(
        read_frames(rotated, [0, 2]), np.rot90(read_frames(path, [0, 2]), turns, axes=(1, 2))
    )


def garbage(folder):
    path = folder / "garbage.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


def empty(folder):
    path = folder / "empty.mp4"
    path.touch()
    return path


def headless(folder):
    """An mp4 whose second half, with its table of frames, is missing."""
    path = folder / "headless.mp4"
    write_video(path)
    os.truncate(path, path.stat().st_size // 2)
    return path


@pytest.mark.parametrize(
    "make,reason",
    [
        (garbage, "not a video, or damaged"),
        (empty, "not a video, or damaged"),
        (headless, "not a video, or damaged"),
        (lambda folder: folder / "missing.mp4", "no such file"),
        (lambda folder: folder, "no such file"),
        (lambda folder: write_audio(folder / "audio.mp4"), "holds no video stream"),
    ],
)
def test_broken_files_are_named_with_the_reason(tmp_path, make, reason):
    path = make(tmp_path)
    for read in (count_frames, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("indices", [[30], [0, -1], []])
def test_indices_out_of_range_are_refused(tmp_path, indices):
    path = write_video(tmp_path / "video.mp4")
    with pytest.raises(VideoError, match=r"from 0 to 29. Received: indices=\["):
        read_frames(path, indices)


def test_cut_off_file_gives_the_frames_that_are_left(tmp_path):
    path = write_video(tmp_path / "video.avi", codec="mpeg4", height=192, width=256)
    frames = decode_all(path)
    os.truncate(path, os.path.getsize(path) // 2)
    count = count_frames(path)
    assert 0 < count < 30
    np.testing.assert_array_equal(read_frames(path, [0, count - 2]), frames[[0, count - 2]])
    with pytest.raises(VideoError, match="video.avi: "):
        read_frames(path, [29])


def test_damage_before_the_wanted_frame_is_an_error_and_after_it_is_none(tmp_path):
    path = write_video(tmp_path / "video.mp4", options={"g": "1", "bf": "0"})
    frames = decode_all(path)
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
        start, size = packet.pos, packet.size
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(b"\xff" * size)
    np.testing.assert_array_equal(read_frames(path, [3, 19]), frames[[3, 19]])
    with pytest.raises(VideoError, match="video.mp4: .*damaged"):
        read_frames(path, [3, 29])
