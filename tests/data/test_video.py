import functools
import os
import pathlib
import pickle
import struct

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from keras_stm.data import video as video_module
from keras_stm.data.video import (
    KINDS,
    VIDEO_EXTENSIONS,
    VideoError,
    count_frames,
    iterate_frames,
    probe,
    read_frames,
    stated_rate,
)
from tests.data import videos
from tests.data.errors import argument_error
from tests.data.field_pictures import write_fields
from tests.data.videos import (
    copy_video,
    decode_all,
    join,
    packet_bytes,
    put_together,
    write_audio,
    write_video,
)

REAL_CLIPS = pathlib.Path(__file__).parents[3] / "shared" / "real_clips"

_OPEN = {"bf": "3", "g": "10", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
# Three groups of pictures each, so that most of a file need not be decoded.
GROUPED = {
    "h264": ("libx264", {"bf": "2", "g": "10"}, ".mp4"),
    "h264 without B-frames": ("libx264", {"bf": "0", "g": "10"}, ".mkv"),
    "h264 of open groups": ("libx264", _OPEN, ".mp4"),
    "mpeg4": ("mpeg4", {"g": "10", "sc_threshold": "1000000000"}, ".avi"),
    "vp9": ("libvpx-vp9", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "16"}, ".webm"),
}
# Kinds whose time stamps or key frames can mislead, and a few regular ones.
UNUSUAL = {
    "h264 in avi": ("libx264", {"bf": "2", "g": "10"}, ".avi"),
    "h264 refreshed bit by bit": ("libx264", {"bf": "0", "g": "10", "intra-refresh": "1"}, ".mp4"),
    "mpeg2 of open groups": ("mpeg2video", {"bf": "2", "g": "10"}, ".mpg"),
    "mpeg4 in mp4": ("mpeg4", {"bf": "2", "g": "10"}, ".mp4"),
    "vp8": ("libvpx", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "16"}, ".webm"),
}
ALL_KINDS = {
    **{name: videos.KINDS[name] for name in ("h264 of key frames", "mpeg4 with B-frames")},
    **GROUPED,
    **UNUSUAL,
}

# MPEG-4 stores this in place of a frame that is not coded.
NO_FRAME = b"\x00\x00\x01\xb6\x50\x00\x80"


def write_kind(folder, kind, **arguments):
    codec, options, extension = kind
    return write_video(folder / f"video{extension}", codec=codec, options=options, **arguments)


def write_xvid(folder):
    options = {"bf": "2", "g": "10", "qscale": "3"}
    return write_video(folder / "xvid.avi", codec="mpeg4", options=options, tag="XVID")


def write_packed(folder):
    """Writes AVI like DivX 5 and Xvid: the first of two B-frames is in the packet of the frame before it.

    An empty packet follows the second B-frame, so there are as many packets as frames.
    """
    options = {"bf": "2", "g": "10", "b_strategy": "0", "sc_threshold": "1000000000"}
    plain = write_video(folder / "plain.avi", codec="mpeg4", options=options, num_frames=31)

    def pack(packets):
        key, *rest = map(bytes, packets)
        packed = [b"\x00\x00\x01\xb2DivX503b1393p" + key]
        for later, first_b, second_b in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
            packed += [later + first_b, second_b, NO_FRAME]
        for packet, data in zip(packets, packed, strict=True):
            new = av.Packet(data)
            new.pts, new.dts, new.time_base = packet.dts, packet.dts, packet.time_base
            new.is_keyframe = packet.is_keyframe
            yield new

    path = copy_video(plain, folder / "packed.avi", pack)
    np.testing.assert_array_equal(decode_all(path), decode_all(plain))
    return path


def write_variable_rate(folder):
    return write_video(
        folder / "variable.mp4",
        options={"bf": "2", "g": "10"},
        times=[40 * i + 7 * i * i % 31 for i in range(30)],
    )


def write_shifted(folder, frames=5):
    """Writes mp4 with an edit list that starts in the middle of a group of pictures."""

    def shift(packets):
        for packet in packets:
            packet.pts -= frames * packet.duration
            packet.dts -= frames * packet.duration
        return packets

    path = write_kind(folder, GROUPED["h264"])
    return copy_video(path, folder / "edited.mp4", shift)


def write_open_start(folder):
    """Writes a video that starts with frames shown before the first key frame; these need removed frames."""
    path = write_kind(folder, GROUPED["h264 of open groups"])
    return copy_video(path, folder / "open.mkv", lambda packets: packets[9:])


def write_equal_times(folder):
    """Writes frames with a display time shorter than the unit of time, so that time stamps repeat."""

    def hasten(packets):
        for packet in packets:
            packet.pts = packet.dts = packet.pts // 200
        return packets

    path = write_kind(folder, GROUPED["h264 without B-frames"])
    return copy_video(path, folder / "equal.mkv", hasten)


def write_skipped(folder):
    """Writes AVI like DivX with dropped frames: a packet without a frame replaces each of them."""
    path = write_kind(folder, GROUPED["mpeg4"])

    def skip(packets):
        for i, packet in enumerate(packets):
            new = av.Packet(NO_FRAME if i in (8, 9, 28) else bytes(packet))
            new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
            new.is_keyframe = packet.is_keyframe
            yield new

    path = copy_video(path, folder / "skipped.avi", skip)
    assert len(decode_all(path)) == 27
    return path


def write_hidden(folder):
    """Writes VP8 like a two-pass encoder: other frames depend on a frame that is not shown."""
    codec, options, _ = UNUSUAL["vp8"]
    path = pathlib.Path(write_video(folder / "vp8.webm", codec=codec, options=options))
    packet = packet_bytes(path)[11]
    shown = packet[0] & 0x10
    path.write_bytes(path.read_bytes().replace(packet, bytes([packet[0] - shown]) + packet[1:], 1))
    assert len(decode_all(str(path))) == 29
    return str(path)


def write_without_start(folder):
    """Writes a video that starts inside a group of pictures; the rest of that group cannot be decoded."""
    path = write_kind(folder, GROUPED["h264"])
    return copy_video(path, folder / "startless.mkv", lambda packets: packets[4:])


def write_wrong_times(folder):
    """Copies AVI to mp4: time stamps follow the storage order of the frames."""
    path = write_kind(folder, UNUSUAL["h264 in avi"])
    return copy_video(path, folder / "copied.mp4")


WRITERS = [
    write_xvid,
    write_packed,
    write_variable_rate,
    write_shifted,
    write_equal_times,
    write_open_start,
    write_skipped,
    write_hidden,
    write_without_start,
    write_wrong_times,
]


@pytest.fixture(
    scope="module", params=[*ALL_KINDS, *WRITERS], ids=lambda kind: getattr(kind, "__name__", kind)
)
def video(request, tmp_path_factory):
    """The path of a file, and all of its frames."""
    folder = tmp_path_factory.mktemp("video")
    make = (
        request.param
        if callable(request.param)
        else functools.partial(write_kind, kind=ALL_KINDS[request.param])
    )
    path = make(folder)
    return path, decode_all(path)


def test_frames_are_those_of_decoding_everything(video):
    path, frames = video
    total = len(frames)
    assert count_frames(path) == total >= 15
    for indices in [
        range(total),
        *([i] for i in range(total)),
        [1, 4, 11, total - 1],
        [total - 2, total - 1],
    ]:
        read = read_frames(path, indices)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, frames[list(indices)])


def test_frames_one_at_a_time_are_those_of_decoding_everything(video):
    path, frames = video
    np.testing.assert_array_equal(list(iterate_frames(path)), frames)


def test_indices_may_repeat_come_in_any_order_or_from_a_function_of_the_number_of_frames(video):
    path, frames = video
    indices = [7, 7, 14, 0, 3, 0]
    np.testing.assert_array_equal(
        read_frames(path, lambda total_frames: np.array([*indices, total_frames - 1])), frames[[*indices, -1]]
    )


def test_probe_tells_what_the_file_holds(video):
    path, frames = video
    info = probe(path)
    assert info[:3] == (len(frames), 32, 48)
    if not path.endswith(("variable.mp4", "equal.mkv", "vp8.webm")):
        assert info.frame_rate == pytest.approx(10)
        assert info.seconds == pytest.approx(info.num_frames / 10)


def test_probe_takes_the_mean_of_a_variable_frame_rate(tmp_path):
    path = write_video(tmp_path / "video.mkv", num_frames=5, times=[0, 10, 30, 200, 400])
    assert probe(path).frame_rate == pytest.approx(10)
    assert probe(path).seconds == pytest.approx(0.5)


@pytest.mark.parametrize("kind", videos.KINDS)
def test_a_single_frame_is_a_video(tmp_path, kind):
    path = write_kind(tmp_path, videos.KINDS[kind], num_frames=1)
    assert count_frames(path) == 1
    assert read_frames(path, [0, 0]).shape == (2, 32, 48, 3)
    assert probe(path).num_frames == 1


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="needs the recorded clips in ../shared")
def test_frames_of_recorded_clips_are_those_of_decoding_everything():
    clips = [path for path in REAL_CLIPS.iterdir() if path.suffix in VIDEO_EXTENSIONS]
    assert clips
    for path in clips:
        frames = decode_all(str(path))
        assert count_frames(path) == len(frames)
        for indices in (np.linspace(0, len(frames) - 1, 8).astype(int), [len(frames) - 1]):
            np.testing.assert_array_equal(read_frames(path, indices), frames[indices])


@pytest.mark.parametrize("kind", GROUPED)
def test_other_groups_of_pictures_are_not_decoded(tmp_path, kind):
    path = pathlib.Path(write_kind(tmp_path, GROUPED[kind], height=64, width=96))
    frames = decode_all(str(path))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        starts = [i for i, packet in enumerate(packets) if packet.is_keyframe] + [30]
        assert len(starts) == 4
    whole, coded = path.read_bytes(), packet_bytes(path)
    for indices, first, last in [
        ([12, 15], 1, 1),
        ([1, 3], 0, 0),
        ([28], 2, 2),
        ([3, 13], 0, 1),
        ([9], 0, 1),
    ]:
        data = whole
        needed = range(starts[first], starts[last + 1])
        # Replace other frames with bytes of the same size that no decoder accepts.
        for i, packet in enumerate(coded):
            if i not in needed and i > 0:
                assert data.count(packet) == 1
                data = data.replace(packet, b"\xff" * len(packet))
        path.write_bytes(data)
        np.testing.assert_array_equal(read_frames(path, indices), frames[indices])
        damaged = min({*range(1, 30)} - {*needed})
        with pytest.raises(VideoError, match="damaged"):
            read_frames(path, [damaged])


@pytest.mark.parametrize("kind", ["h264", "mpeg4", "h264 in avi"])
def test_damage_within_a_group_of_pictures_is_not_passed_on(tmp_path, kind):
    path = pathlib.Path(write_kind(tmp_path, {**GROUPED, **UNUSUAL}[kind], height=128, width=128))
    # Zero half of a frame in the second group. FFmpeg can still decode the rest of the frame.
    packet = packet_bytes(path)[11]
    half = len(packet) // 2
    path.write_bytes(path.read_bytes().replace(packet, packet[:half] + bytes(len(packet) - half)))
    with av.open(path) as container:
        assert len([*container.decode(video=0)]) == 30
    with pytest.raises(VideoError, match="damaged") as error:
        read_frames(path, [18])
    assert error.value.kind == "unreadable"


def test_frame_that_the_decoder_drops_is_missed(tmp_path):
    path = pathlib.Path(write_kind(tmp_path, GROUPED["mpeg4"], height=64, width=96))
    packet = packet_bytes(path)[11]
    path.write_bytes(path.read_bytes().replace(packet, NO_FRAME.ljust(len(packet), b"\x00")))
    assert len(decode_all(str(path))) == 29
    with pytest.raises(VideoError, match="29 of 30 frames"):
        list(iterate_frames(path))


@pytest.mark.parametrize("stated", [1, 7, 300])
def test_number_of_frames_is_not_that_of_the_header(tmp_path, stated):
    path = write_kind(tmp_path, GROUPED["mpeg4"], height=64, width=96)
    frames = decode_all(path)
    data = bytearray(pathlib.Path(path).read_bytes())
    for chunk, offset in ((b"avih", 16), (b"strh", 32)):
        position = data.index(chunk) + 8 + offset
        assert struct.unpack_from("<I", data, position) == (30,)
        struct.pack_into("<I", data, position, stated)
    pathlib.Path(path).write_bytes(data)
    assert count_frames(path) == probe(path).num_frames == 30
    np.testing.assert_array_equal(read_frames(path, [0, 29]), frames[[0, 29]])


@pytest.mark.parametrize("extension", [".mp4", ".mov"])
@pytest.mark.parametrize(
    "matrix",
    [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)],
)
def test_rotation_and_mirroring_are_applied(tmp_path, matrix, extension):
    path = write_video(tmp_path / f"video{extension}", options={"bf": "2", "g": "10"})
    frames = read_frames(path, [0, 22])
    write_matrix(path, matrix)
    # This computes each pixel's place by the formula of the header, moved to places from 0 on.
    places = np.stack(np.meshgrid(range(48), range(32)), axis=-1) @ np.reshape(matrix, (2, 2))
    columns, rows = np.moveaxis(places - places.min(axis=(0, 1)), -1, 0)
    expected = np.zeros((2, rows.max() + 1, columns.max() + 1, 3), "uint8")
    expected[:, rows, columns] = frames
    np.testing.assert_array_equal(read_frames(path, [0, 22]), expected)
    np.testing.assert_array_equal(next(iterate_frames(path)), expected[0])
    assert probe(path)[1:3] == expected.shape[1:3]


def test_matrix_of_zeros_changes_nothing(tmp_path):
    path = write_video(tmp_path / "video.mp4")
    frames = read_frames(path, [0])
    write_matrix(path, (0, 0, 0, 0))
    np.testing.assert_array_equal(read_frames(path, [0]), frames)


def write_matrix(path, matrix):
    """Makes the header of MP4 show the pixel (x, y) at (a x + c y, b x + d y)."""
    a, b, c, d = (number << 16 for number in matrix)
    data = bytearray(pathlib.Path(path).read_bytes())
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    pathlib.Path(path).write_bytes(data)


def test_rotation_is_applied_beside_side_data_that_pyav_does_not_know(tmp_path):
    exif = Image.Exif()
    # The orientation of a picture that needs a quarter turn clockwise.
    exif[0x0112] = 6
    picture = Image.fromarray(np.arange(32 * 48 * 3, dtype="uint8").reshape(32, 48, 3))
    picture.save(tmp_path / "plain.mjpeg", "JPEG")
    picture.save(tmp_path / "exif.mjpeg", "JPEG", exif=exif)
    np.testing.assert_array_equal(
        read_frames(tmp_path / "exif.mjpeg", [0]),
        np.rot90(read_frames(tmp_path / "plain.mjpeg", [0]), -1, axes=(1, 2)),
    )


def garbage(folder):
    path = folder / "garbage.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


def text(folder):
    path = folder / "text.mp4"
    path.write_text("This is no video.\n" * 100)
    return path


def empty(folder):
    path = folder / "empty.mp4"
    path.touch()
    return path


def named_like_a_video(folder):
    path = folder / "folder.mp4"
    path.mkdir()
    return path


def cut(extension):
    def cut_in_half(folder):
        path = write_video(folder / f"cut{extension}", codec=CODECS[extension])
        os.truncate(path, os.path.getsize(path) // 2)
        return path

    return cut_in_half


CODECS = {".mp4": "libx264", ".avi": "mpeg4", ".mkv": "libx264", ".webm": "libvpx-vp9"}


@pytest.mark.parametrize(
    "make,kind,message",
    [
        (garbage, "unreadable", "not a video, or damaged"),
        (text, "unreadable", "not a video, or damaged"),
        (empty, "unreadable", "not a video, or damaged"),
        (lambda folder: folder / "missing.mp4", "missing", "no such file"),
        (named_like_a_video, "missing", "no such file"),
        (lambda folder: write_audio(folder / "audio.mp4"), "no video stream", "holds no video stream"),
        *((cut(extension), "truncated", "truncated") for extension in CODECS),
    ],
)
def test_broken_files_are_named_with_the_reason(tmp_path, make, kind, message):
    path = make(tmp_path)
    for read in (count_frames, probe, lambda p: read_frames(p, [0]), lambda p: list(iterate_frames(p))):
        with pytest.raises(VideoError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: {message}")
        assert error.value.kind == kind in KINDS
        assert error.value.path == str(path)


def test_file_name_is_no_address(tmp_path, monkeypatch):
    write_video(tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    os.rename("video.mp4", "10:30.mp4")
    assert count_frames("10:30.mp4") == 30


@pytest.mark.parametrize("listed", ["video.mp4", "list.mp4"])
def test_list_of_files_is_no_video(tmp_path, listed):
    write_video(tmp_path / "video.mp4")
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {listed}\n")
    with pytest.raises(VideoError, match="not a video") as error:
        read_frames(path, [0])
    assert error.value.kind == "unreadable" and "open files" not in str(error.value)


def test_file_that_vanishes_is_missing(tmp_path, monkeypatch):
    path = write_video(tmp_path / "video.mp4")
    monkeypatch.setattr(video_module, "is_truncated", lambda path: os.remove(path))
    with pytest.raises(VideoError) as error:
        read_frames(path, [0])
    assert error.value.kind == "missing"


def test_cut_is_found_without_the_size_of_the_file(tmp_path):
    path = pathlib.Path(write_kind(tmp_path, GROUPED["mpeg4"]))
    frames = decode_all(str(path))
    # FFmpeg writes this in place of the size if it writes to a pipe.
    with open(path, "r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 4)
    np.testing.assert_array_equal(read_frames(path, range(30)), frames)
    last = packet_bytes(path)[-1]
    os.truncate(path, path.read_bytes().index(last) + len(last) // 2)
    with pytest.raises(VideoError, match="29 frames") as error:
        read_frames(path, [0])
    assert error.value.kind == "truncated"


@pytest.mark.parametrize("kind", ["h264 with B-frames", "mpeg4 with B-frames"])
def test_more_than_a_clip_may_take_is_too_large(tmp_path, monkeypatch, kind):
    path = write_kind(tmp_path, videos.KINDS[kind])
    monkeypatch.setattr(video_module, "MAX_BYTES", 2 * 32 * 48 * 3)
    assert len(read_frames(path, [0, 29])) == 2
    with pytest.raises(VideoError, match="3 .*48x32 .*9,216") as error:
        read_frames(path, [0, 1, 29])
    assert error.value.kind == "too large"


READERS = [count_frames, probe, lambda path: read_frames(path, [0]), lambda path: list(iterate_frames(path))]


@pytest.mark.parametrize(
    "height,width,message",
    [
        (8192, 4098, "33,554,432"),
        (2, 66, "66x2 .*32 times"),
        (4000, 100, "100x4000 .*32 times"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_size_that_a_header_states_is_checked_before_what_does_not_fit_it_is_decoded(
    tmp_path, read, height, width, message
):
    path = videos.write_stated_size(tmp_path / "video.avi", height, width)
    with pytest.raises(VideoError, match=message) as error:
        read(path)
    assert error.value.kind == "too large"


@pytest.mark.parametrize("read", READERS[1:])
def test_frames_larger_than_the_header_says_are_not_decoded(tmp_path, read):
    path = pathlib.Path(write_video(tmp_path / "video.webm", codec="libvpx"))
    data = bytearray(path.read_bytes())
    # A key frame of VP8 holds its start code, width and height.
    start = data.index(b"\x9d\x01\x2a") + 3
    assert struct.unpack_from("<HH", data, start) == (48, 32)
    struct.pack_into("<HH", data, start, 8192, 4098)
    path.write_bytes(data)
    # Without a limit, FFmpeg decodes the larger size.
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frame = next(container.decode(video=0))
        assert (frame.height, frame.width) == (4098, 8192)
    with pytest.raises(VideoError) as error:
        read(path)
    assert error.value.kind == "unreadable"


@pytest.mark.parametrize("read", READERS)
def test_more_frames_than_a_list_may_have_are_too_large(tmp_path, monkeypatch, read):
    path = write_video(tmp_path / "video.avi", codec="mpeg4")
    monkeypatch.setattr(video_module, "MAX_PACKETS", 30)
    read(path)
    monkeypatch.setattr(video_module, "MAX_PACKETS", 29)
    with pytest.raises(VideoError, match=" 29 frames") as error:
        read(path)
    assert error.value.kind == "too large"


@pytest.mark.parametrize("read", READERS)
def test_table_of_more_frames_than_can_be_listed_is_not_opened(tmp_path, monkeypatch, read):
    path = videos.write_stated_frames(tmp_path / "video.mp4", 8 * 1024**2 + 1)
    monkeypatch.setattr(av, "open", None)
    with pytest.raises(VideoError, match="8,388,608") as error:
        read(path)
    assert error.value.kind == "too large"


def test_pipe_named_like_a_video_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="no such file"):
        read_frames(tmp_path / "pipe.mp4", [0])


@pytest.mark.parametrize("codec,extension", [("libx264", ".ts"), ("libvpx-vp9", ".mkv"), ("libvpx", ".webm")])
@pytest.mark.parametrize("sizes", [((32, 48), (48, 64)), ((48, 64), (32, 48)), ((48, 64), (64, 48))])
def test_later_frames_get_the_size_of_the_first(tmp_path, codec, extension, sizes):
    first, second = (
        write_video(
            tmp_path / f"{i}{extension}",
            12,
            codec,
            {"bf": "0"},
            *sizes[i],
            brightness=60 + 100 * i,
            times=TIMES[12 * i : 12 * i + 12],
        )
        for i in range(2)
    )
    # In containers with a header, the frames of both go below the header of the first.
    put = join if extension == ".ts" else append
    path = put(tmp_path / f"video{extension}", first, second)
    expected = (*sizes[0], 3)
    for indices in ([0, 20], [20, 13], [22]):
        assert read_frames(path, indices).shape[1:] == expected
    frames = np.stack([*iterate_frames(path)])
    np.testing.assert_array_equal(read_frames(path, range), frames)
    assert probe(path)[:3] == (24, *expected[:2])
    means = frames.mean(axis=(1, 2, 3))
    assert np.ptp(means[:12]) < 10 and np.ptp(means[12:]) < 10
    assert means[12:].min() - means[:12].max() > 80


# Display times in milliseconds, at 25 frames/s.
TIMES = list(range(0, 4000, 40))


def append(target, first, second):
    """Copies the frames of two files into one."""

    def add(packets):
        with av.open(second) as container:
            packets += [packet for packet in container.demux(video=0) if packet.size]
            yield from packets

    return copy_video(first, target, add)


def delayed(packets, seconds):
    for packet in packets:
        packet.pts += round(seconds / packet.time_base)
        packet.dts += round(seconds / packet.time_base)
    return packets


JOINED = {
    "ts": ("libx264", {"bf": "2"}, ".ts", None),
    "ts of key frames at any place": ("libx264", {"bf": "2", "g": "5"}, ".ts", None),
    "webm": ("libvpx-vp9", {"lag-in-frames": "0"}, ".webm", "live"),
    "whole webm": ("libvpx", {}, ".webm", None),
    "mkv": ("libx264", {"bf": "2"}, ".mkv", None),
}


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("starts", [(0, 0), (0, 311), (0, 913), (5000, 0)])
def test_joined_recordings_are_read_in_the_order_of_the_file(tmp_path, kind, starts):
    codec, options, extension, live = JOINED[kind]
    paths = []
    for i, start in enumerate(starts):
        path = tmp_path / f"{i}{extension}"
        times = [start + time for time in TIMES[:24]]
        write_video(path, 24, codec, options, brightness=20 + 80 * i, times=times)
        if live:
            path = copy_video(path, tmp_path / f"live{i}{extension}", options={live: "1"})
        paths.append(path)
    path = join(tmp_path / f"video{extension}", *paths)
    expected = np.concatenate([decode_all(str(path)) for path in paths])
    np.testing.assert_array_equal(read_frames(path, range), expected)
    np.testing.assert_array_equal(list(iterate_frames(path)), expected)
    np.testing.assert_array_equal(read_frames(path, [40, 5]), expected[[40, 5]])
    assert probe(path).num_frames == 48
    assert probe(path).frame_rate == pytest.approx(25, rel=0.01)


def test_clock_that_is_set_back_in_flv_or_forward_in_ts_changes_neither_order_nor_rate(tmp_path):
    first, second = (
        write_video(tmp_path / f"{i}.flv", 24, options={"bf": "2"}, brightness=20 + 80 * i, times=TIMES[:24])
        for i in range(2)
    )
    expected = np.concatenate([decode_all(first), decode_all(second)])
    flv = tmp_path / "video.flv"
    # The second header would end the file for FFmpeg.
    flv.write_bytes(pathlib.Path(first).read_bytes() + pathlib.Path(second).read_bytes()[13:])
    ts = join(
        tmp_path / "video.ts",
        copy_video(first, tmp_path / "0.ts"),
        copy_video(second, tmp_path / "1.ts", lambda packets: delayed(packets, 3600)),
    )
    np.testing.assert_array_equal(read_frames(flv, range), expected)
    assert probe(flv).frame_rate == pytest.approx(25)
    np.testing.assert_array_equal(read_frames(ts, range(48)), expected)
    assert probe(ts).frame_rate == pytest.approx(25)


def test_time_stamps_rise_if_each_frame_is_late_by_at_most_the_depth():
    entries = [
        video_module._Entry(pts, 100, i in (0, 4), False, False)
        for i, pts in enumerate((0, 3, 1, 2, 6, 4, 5))
    ]
    rise = video_module._rise
    # The third frame is shown before the key frame that follows it.
    assert not rise(entries[:1] + entries[2:], 0)
    assert rise(entries, 1) and not rise(entries, 0)
    assert not rise([*entries, entries[2]._replace(pts=2.5)], 1)
    assert not rise([*entries, entries[4]._replace(pts=5.5)], 5)


@pytest.mark.parametrize("kinds", [("fields",), ("frame", "frame", "fields")])
@pytest.mark.parametrize("extension", [".ts", ".mp4", ".mkv"])
def test_two_field_pictures_make_a_frame(tmp_path, extension, kinds):
    path = write_fields(tmp_path, range(40, 220, 8), extension, kinds)
    frames = decode_all(path)
    assert len(frames) == count_frames(path) == 23
    np.testing.assert_array_equal(read_frames(path, range), frames)
    np.testing.assert_array_equal(read_frames(path, [22, 3]), frames[[22, 3]])
    assert probe(path).frame_rate == pytest.approx(25)


def test_a_gap_in_the_counter_of_ts_is_no_cut_off_and_lost_data_are_damage(tmp_path):
    paths = [
        write_video(
            tmp_path / f"{i}.ts", len(times), options={"bf": "0", "g": "1"}, height=96, width=128, times=times
        )
        for i, times in enumerate((TIMES[:23], TIMES[23:47]))
    ]
    expected = np.concatenate([decode_all(path) for path in paths])
    path = tmp_path / "video.ts"
    path.write_bytes(b"".join(pathlib.Path(path).read_bytes() for path in paths))
    with av.open(str(path)) as container:
        assert any(packet.is_corrupt for packet in container.demux(video=0))
    np.testing.assert_array_equal(read_frames(path, range), expected)
    data = pathlib.Path(paths[0]).read_bytes()
    middle = len(data) // 188 // 2 * 188
    path.write_bytes(data[:middle] + data[middle + 188 :])
    np.testing.assert_array_equal(read_frames(path, [0, 3, 22]), expected[[0, 3, 22]])
    with pytest.raises(VideoError, match="is damaged") as error:
        read_frames(path, range)
    assert error.value.kind == "unreadable"


def write_cover(path, size=(320, 240)):
    return write_video(path, 1, "mjpeg", height=size[1], width=size[0], pixels="yuvj420p")


DEFAULT, NONE = Disposition.default, Disposition(0)


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "streams,chosen",
    [
        ((("cover", DEFAULT), ("short", DEFAULT)), 1),
        ((("short", NONE), ("cover", DEFAULT)), 0),
        ((("short", DEFAULT), ("long", NONE)), 0),
        ((("long", NONE), ("short", DEFAULT)), 1),
        ((("short", DEFAULT), ("long", DEFAULT)), 1),
        ((("long", DEFAULT), ("short", DEFAULT)), 0),
    ],
)
def test_of_several_streams_the_default_or_the_longest_video_is_read(tmp_path, extension, streams, chosen):
    paths = {
        "cover": write_cover(tmp_path / "cover.mkv"),
        "short": write_video(tmp_path / "short.mkv", 12, height=48, width=64),
        "long": write_video(tmp_path / "long.mkv", 20),
    }
    names, dispositions = zip(*streams, strict=True)
    path = put_together(tmp_path / f"video{extension}", [paths[name] for name in names], dispositions)
    expected = decode_all(paths[names[chosen]])
    np.testing.assert_array_equal(read_frames(path, range), expected)
    np.testing.assert_array_equal(list(iterate_frames(path)), expected)
    assert probe(path)[:3] == expected.shape[:3]
    assert stated_rate(path) == 10


def test_a_picture_alone_is_a_video_unless_it_is_attached_to_something(tmp_path):
    cover = write_cover(tmp_path / "cover.mkv")
    assert read_frames(cover, range).shape == (1, 240, 320, 3)
    attached = tmp_path / "song.mp4"
    with av.open(cover) as picture, av.open(str(attached), "w") as new:
        song = new.add_stream("aac", rate=8000, layout="mono")
        stream = new.add_stream_from_template(picture.streams.video[0])
        stream.disposition = Disposition.attached_pic
        for packet in picture.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
        new.mux(song.encode())
    with pytest.raises(VideoError, match="holds no video stream") as error:
        read_frames(attached, [0])
    assert error.value.kind == "no video stream"


def test_animated_webp_is_said_to_be_beyond_ffmpeg(tmp_path):
    images = [Image.new("RGB", (64, 48), (value, 0, 0)) for value in (0, 100, 200)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:])
    with pytest.raises(VideoError, match="FFmpeg cannot decode animated WebP: convert it") as error:
        read_frames(tmp_path / "a.webp", [0])
    assert error.value.kind == "unreadable"


@pytest.mark.parametrize("box,more", [(b"mdat", 1), (b"mdat", 1000), (b"moov", 1), (b"moov", 1000)])
def test_frames_before_the_end_are_read_if_the_last_box_states_more(tmp_path, box, more):
    write = videos.write_faststart if box == b"mdat" else videos.write_mp4
    path = pathlib.Path(write(tmp_path))
    expected = decode_all(str(path))
    data = bytearray(path.read_bytes())
    start = data.index(box) - 4
    data[start : start + 4] = (int.from_bytes(data[start : start + 4]) + more).to_bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_frames(path, range), expected)
    for length in (len(data) - 1, len(data) - 40, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(VideoError, match=r"truncated after \d+ frames") as error:
            read_frames(path, [0])
        assert error.value.kind == "truncated"


def test_error_of_a_truncated_file_counts_the_frames_that_are_whole(tmp_path):
    path = videos.write_faststart(tmp_path)
    data = pathlib.Path(path).read_bytes()
    packets = packet_bytes(path)
    pathlib.Path(path).write_bytes(data[: data.index(packets[12]) + 1])
    with pytest.raises(VideoError, match="truncated after 12 frames"):
        read_frames(path, [0])


@pytest.mark.parametrize("kind", ["h264 with B-frames", "mpeg4 with B-frames"])
def test_indices_out_of_range_are_refused(tmp_path, kind):
    path = write_kind(tmp_path, videos.KINDS[kind])
    for indices in ([30], [0, -1], []):
        with argument_error("indices", indices):
            read_frames(path, indices)


def test_error_can_be_sent_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(VideoError(tmp_path / "a.mp4", "missing", "no such file")))
    assert str(error) == f"{tmp_path / 'a.mp4'}: no such file"
    assert error.kind == "missing"
