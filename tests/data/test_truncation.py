import os
import pathlib

import pytest

from keras_stm.data.truncation import count_samples, has_unread_parts, has_whole_tables, is_truncated
from tests.data.videos import copy_video, decode_all, join, write_audio, write_stated_frames, write_video

CODECS = {
    ".avi": "mpeg4",
    ".flv": "libx264",
    ".mkv": "libx264",
    ".mov": "libx264",
    ".mp4": "libx264",
    ".ts": "libx264",
    ".webm": "libvpx-vp9",
}


@pytest.mark.parametrize("extension", CODECS)
def test_every_cut_behind_the_header_is_found(tmp_path, extension):
    path = write_video(tmp_path / f"video{extension}", codec=CODECS[extension], num_frames=3)
    assert not is_truncated(path)
    size = os.path.getsize(path)
    for length in (size - 1, size - 10, size // 2, 100):
        if extension == ".ts":
            # Packets of MPEG-TS are 188 bytes long; a cut between two of them leaves no trace.
            length = max(length // 188, 5) * 188 + 1
        os.truncate(path, length)
        assert is_truncated(path), length


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_cuts_of_other_forms_of_mp4_are_found(tmp_path, flags):
    plain = write_video(tmp_path / "plain.mp4")
    path = copy_video(plain, tmp_path / "video.mp4", options={"movflags": flags})
    assert not is_truncated(path)
    os.truncate(path, os.path.getsize(path) * 3 // 4)
    assert is_truncated(path)


@pytest.mark.parametrize("extension", CODECS)
@pytest.mark.parametrize("appended", [bytes(100), b"TAG of an MP3 player" * 10])
def test_what_follows_a_video_is_no_part_of_it(tmp_path, extension, appended):
    path = write_video(tmp_path / f"video{extension}", codec=CODECS[extension], num_frames=3)
    with open(path, "ab") as file:
        file.write(appended)
    assert not is_truncated(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"This is no video.",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        # The length of the segment is unknown, like in a broadcast.
        b"\x1aE\xdf\xa3\x83abc\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xffclusters",
        # A box that extends to the end of the file.
        b"\x00\x00\x00\x00mdatframes",
    ],
)
def test_files_that_state_no_size_are_not_truncated(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert not is_truncated(path)


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x09\x00\x00\x00AVI LIST",
        b"\x1aE\xdf\xa3\x83abc\x18S\x80g\x89clusters",
        b"\x00\x00\x00\x08free\x00\x00\x00\x11mdatclusters",
        # A length that is stored in eight bytes.
        b"\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x17frames",
    ],
)
def test_files_that_state_a_byte_more_are_truncated(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert is_truncated(path)
    path.write_bytes(content + b"!")
    assert not is_truncated(path)


@pytest.mark.parametrize("extension", [".flv", ".mkv", ".ts", ".webm"])
def test_a_cut_of_the_second_of_two_joined_files_is_found(tmp_path, extension):
    path = write_video(tmp_path / f"video{extension}", codec=CODECS[extension], num_frames=3)
    size = os.path.getsize(path)
    joined = join(tmp_path / f"joined{extension}", path, path)
    if extension == ".flv":
        # Only the first header stays.
        joined = tmp_path / "joined.flv"
        data = pathlib.Path(path).read_bytes()
        joined.write_bytes(data + data[13:])
    assert not is_truncated(joined)
    for length in (2 * size - 20, size + size // 2 + 1):
        os.truncate(joined, length)
        assert is_truncated(joined), length


@pytest.mark.parametrize("extension,readable", [(".flv", 1), (".mkv", 2), (".webm", 2), (".ts", 3)])
def test_joined_files_that_ffmpeg_does_not_read_to_the_end_are_found(tmp_path, extension, readable):
    path = write_video(tmp_path / f"video{extension}", codec=CODECS[extension], num_frames=3)
    for count in (1, 2, 3):
        joined = join(tmp_path / f"joined{extension}", *[path] * count)
        assert has_unread_parts(joined) == (count > readable)
        assert (len(decode_all(joined)) == 3 * count) == (count <= readable)


def patch(path, place, size, more, order):
    """Adds `more` to a number of `size` bytes that starts at `place`."""
    data = bytearray(pathlib.Path(path).read_bytes())
    number = int.from_bytes(data[place : place + size], order) + more
    data[place : place + size] = number.to_bytes(size, order)
    pathlib.Path(path).write_bytes(data)


@pytest.mark.parametrize("more", [1, 5000])
def test_a_file_that_states_too_much_but_has_all_parts_is_not_truncated(tmp_path, more):
    avi = write_video(tmp_path / "video.avi", codec="mpeg4", num_frames=3)
    patch(avi, 4, 4, more, "little")
    mkv = write_video(tmp_path / "video.mkv", num_frames=3)
    patch(mkv, pathlib.Path(mkv).read_bytes().index(b"\x18S\x80g") + 4, 8, more, "big")
    mp4 = write_video(tmp_path / "video.mp4", num_frames=3)
    patch(mp4, pathlib.Path(mp4).read_bytes().index(b"moov") - 4, 4, more, "big")
    for path in (avi, mkv, mp4):
        assert not is_truncated(path)
        os.truncate(path, os.path.getsize(path) - 1)
        assert is_truncated(path)


def test_tables_are_whole_if_only_frames_are_cut(tmp_path):
    plain = write_video(tmp_path / "plain.mp4")
    assert has_whole_tables(plain)
    path = copy_video(plain, tmp_path / "video.mp4", options={"movflags": "faststart"})
    end = pathlib.Path(path).read_bytes().index(b"mdat") + 100
    os.truncate(path, end)
    assert is_truncated(path) and has_whole_tables(path)
    os.truncate(path, end // 2)
    assert is_truncated(path) and not has_whole_tables(path)
    assert not has_whole_tables(write_video(tmp_path / "video.avi", codec="mpeg4"))


def test_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        is_truncated(tmp_path / "missing.mp4")


def test_frames_that_the_tables_state_are_counted(tmp_path):
    path = write_video(tmp_path / "plain.mp4")
    assert count_samples(path) == 30
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    assert count_samples(copy_video(path, tmp_path / "fragments.mp4", options=fragments)) == 30
    assert count_samples(write_video(tmp_path / "video.avi", codec="mpeg4")) == 0
    path = pathlib.Path(write_stated_frames(tmp_path / "stated.mp4", 10**9))
    assert count_samples(path) == 10**9
    path.write_bytes(path.read_bytes().replace(b"moov", b"free"))
    assert count_samples(path) == 10**9


def test_frames_of_sound_are_counted_and_its_bare_numbers_are_not(tmp_path):
    assert count_samples(write_audio(tmp_path / "aac.mp4")) == 2
    assert count_samples(write_audio(tmp_path / "pcm.mov", "pcm_s16le")) == 0


def test_boxes_within_boxes_without_end_are_walked_through(tmp_path):
    path = tmp_path / "nested.mp4"
    path.write_bytes(b"".join((8 * (5000 - i)).to_bytes(4) + b"moov" for i in range(5000)))
    assert count_samples(path) == 0
