"""Damaged, misleading and false media files: reading returns the right frames or an error with the path."""

import contextlib
import faulthandler
import functools
import io
import os
import pathlib
import struct
import sys
import tempfile
import wave
import zipfile

import numpy as np
import psutil
import pytest
import tensorflow as tf

from keras_stm.data import LeftOut, frames, images, make_pipeline, open_dataset, shards
from keras_stm.data.video import KINDS, VideoError
from keras_stm.data.views import read_views
from tests.data.videos import (
    decode_all,
    packet_bytes,
    state_jpeg_size,
    write_audio,
    write_avi,
    write_faststart,
    write_fragmented_mp4,
    write_live_webm,
    write_mp4,
    write_stated_size,
    write_video,
    write_webm,
)

# Number of bytes that are damaged, lost or moved.
SIZE = 200
PLACES = 3
CUTS = 20
# Seconds after which reading a file of a few kilobytes counts as hanging.
HANGS = 60


def write_mkv(folder):
    return write_video(folder / "video.mkv", options={"bf": "2", "g": "10"})


def write_flv(folder):
    return write_video(folder / "video.flv", options={"bf": "0", "g": "10"})


def write_ts(folder):
    return write_video(folder / "video.ts", options={"bf": "2", "g": "10"})


CONTAINERS = {
    "mp4": write_mp4,
    "faststart mp4": write_faststart,
    "fragmented mp4": write_fragmented_mp4,
    "webm": write_webm,
    "live webm": write_live_webm,
    "avi": write_avi,
    "mkv": write_mkv,
    "flv": write_flv,
    "ts": write_ts,
}
# If such a file is cut between two fragments, clusters or tags, the rest is a valid file.
WITHOUT_LENGTH = ("fragmented mp4", "live webm", "flv")


@functools.cache
def source(container):
    """Returns the bytes of an undamaged file, its frames and its extension."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(CONTAINERS[container](pathlib.Path(folder)))
        return path.read_bytes(), decode_all(str(path)), path.suffix


@functools.cache
def jpegs():
    """Returns eight frames of noise as JPEG files, 48x64."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 8, 3), "uint8")
    return [tf.io.encode_jpeg(image.repeat(8, axis=0).repeat(8, axis=1)).numpy() for image in noise]


@contextlib.contextmanager
def nothing_left(folder):
    """Fails if the block hangs, changes files in the folder, or leaves files open."""
    before, num_open = files_in(folder), psutil.Process().num_fds()
    faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert files_in(folder) == before
    assert psutil.Process().num_fds() == num_open


def files_in(folder):
    return {path: path.lstat().st_size for path in folder.rglob("*")}


def read(path, folder):
    """Returns all frames, or the `VideoError` after a check of its message."""
    with nothing_left(folder):
        try:
            found = frames.read_frames(path, range)
        except VideoError as error:
            assert str(error).startswith(f"{path}: ") and error.path == str(path)
            assert "\n" not in str(error).removeprefix(str(path))
            assert error.kind in KINDS
            return error
        assert found.dtype == np.uint8 and found.ndim == 4 and found.shape[3] == 3
        assert frames.count_frames(path) == frames.probe(path).num_frames == len(found) > 0
    return found


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_cut_is_found_or_what_is_left_is_right(tmp_path, container):
    data, expected, extension = source(container)
    path = tmp_path / f"cut{extension}"
    for length in np.linspace(0, len(data) - 1, CUTS).astype(int):
        path.write_bytes(data[:length])
        found = read(path, tmp_path)
        if container in WITHOUT_LENGTH and not isinstance(found, VideoError):
            np.testing.assert_array_equal(found, expected[: len(found)])
        else:
            assert isinstance(found, VideoError), f"cut to {length} of {len(data)} bytes"


def flip_bit(data, start, rng):
    return data[:start] + bytes([data[start] ^ 1 << rng.integers(8)]) + data[start + 1 :]


FAULTS = {
    "cut off": lambda data, start, rng: data[:start],
    "without its start": lambda data, start, rng: data[start:],
    "a wrong bit": flip_bit,
    "noise": lambda data, start, rng: data[:start] + rng.bytes(SIZE) + data[start + SIZE :],
    "zeros": lambda data, start, rng: data[:start] + bytes(SIZE) + data[start + SIZE :],
    "a part lost": lambda data, start, rng: data[:start] + data[start + SIZE :],
    "a part twice": lambda data, start, rng: data[: start + SIZE] + data[start:],
    "parts swapped": lambda data, start, rng: (
        data[:start]
        + data[start + SIZE : start + 2 * SIZE]
        + data[start : start + SIZE]
        + data[start + 2 * SIZE :]
    ),
    "noise inserted": lambda data, start, rng: data[:start] + rng.bytes(SIZE) + data[start:],
}


def damaged(data, fault):
    """Yields the data with the fault, at another place each time."""
    for place in range(PLACES):
        start = round((len(data) - 2 * SIZE) * (place + 0.5) / PLACES)
        yield FAULTS[fault](data, start, np.random.default_rng(place))


@pytest.mark.parametrize("container", CONTAINERS)
def test_damage_in_a_video_gives_frames_or_an_error(tmp_path, container):
    data, _, extension = source(container)
    path = tmp_path / f"damaged{extension}"
    errors = []
    for fault in FAULTS.keys() - {"cut off"}:
        for content in damaged(data, fault):
            path.write_bytes(content)
            errors.append(isinstance(read(path, tmp_path), VideoError))
    # Some damage is found, and some goes unnoticed.
    assert any(errors) and not all(errors)


def write_folder(folder, **changes):
    """Writes a folder of frames; `f1` to `f8` replace the files of single frames."""
    path = folder / "frames"
    path.mkdir(exist_ok=True)
    for i, image in enumerate(jpegs(), 1):
        (path / f"{i:05d}.jpg").write_bytes(changes.get(f"f{i}", image))
    return path, images.decode(jpegs())


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_in_a_frame_gives_frames_or_an_error(tmp_path, fault):
    for content in damaged(jpegs()[3], fault):
        path, original = write_folder(tmp_path, f4=content)
        found = read(path, tmp_path)
        if fault == "cut off":
            assert found.kind == "unreadable"
        elif not isinstance(found, VideoError):
            # JPEG has no checksums.
            np.testing.assert_array_equal(np.delete(found, 3, axis=0), np.delete(original, 3, axis=0))


def write_shard(folder):
    """Writes a shard of three clips; returns its path and the offset of each clip."""
    clips = [(i, f"{i}.mp4", i, shards.PackedClip(jpegs()[i : i + 5], 48, 64)) for i in range(3)]
    settings = {"fingerprint": "", "num_shards": 1}
    shards.write_shard(str(folder), "train", 0, settings, clips)
    (_, _, sidecar), *_ = shards.read_sidecars(str(folder))
    return folder / shards.shard_name("train", 0, 1), [start for _, start, *_ in sidecar["clips"]]


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_in_a_shard_gives_the_frames_or_an_error(tmp_path, fault):
    shard, starts = write_shard(tmp_path)
    for content in damaged(shard.read_bytes(), fault):
        shard.write_bytes(content)
        for clip, start in enumerate(starts):
            found = read(f"{shard}#{start}", tmp_path)
            if not isinstance(found, VideoError):
                np.testing.assert_array_equal(found, images.decode(jpegs()[clip : clip + 5]))


# File names that FFmpeg, a shell, a glob pattern or an encoding could misread.
NAMES = [
    *("a\nb.mp4", "a b.mp4", '"a".mp4', "$(a).mp4", "a\\b.mp4", "-i.mp4", "10:30.mp4", "pipe:0.mp4"),
    *("concat:a|b.mp4", "http:a.mp4", "a?b#c.mp4", "a.tfrecord#7.mp4", "%03d.mp4", "*.mp4", "[a].mp4"),
    *("~.mp4", ".mp4", "ÄÖ\u0308.mp4", "🎬.mp4", "a" * 251 + ".mp4", os.fsdecode(b"\xff\xfe.mp4"), "a.MP4"),
    # Extensions of other containers.
    *("a.avi", "a.webm"),
]


def test_a_file_may_have_any_name(tmp_path):
    data, expected, _ = source("mp4")
    for name in NAMES:
        path = tmp_path / name
        path.write_bytes(data)
        np.testing.assert_array_equal(read(path, tmp_path), expected)
        path.unlink()


@pytest.mark.parametrize("container", ["mp4", "webm", "avi", "mkv"])
def test_what_follows_a_video_changes_no_frame_and_zeros_are_none(tmp_path, container):
    data, expected, extension = source(container)
    path = tmp_path / f"a{extension}"
    path.write_bytes(data + b"TAG" * 50)
    np.testing.assert_array_equal(read(path, tmp_path), expected)
    path.write_bytes(bytes(len(data)))
    assert read(path, tmp_path).kind == "unreadable"


@pytest.mark.parametrize("extension,codec", [(".mp4", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx-vp9")])
def test_a_video_without_frames_is_an_error(tmp_path, extension, codec):
    assert isinstance(read(write_video(tmp_path / f"a{extension}", 0, codec), tmp_path), VideoError)


def content(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def write_zip(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("video.mp4", source("mp4")[0])


def write_wave(file):
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
        sound.writeframes(bytes(8000))


def write_table_alone():
    data = source("mp4")[0]
    return data.replace(b"mdat", b"free", 1)[:32] + data[data.index(b"moov") - 4 :]


# Files that are named like a video but are none: kind of the error, and content.
CONTENTS = {
    "page of a site": ("unreadable", lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "pointer to a large file": (
        "unreadable",
        lambda: b"version https://git-lfs.github.com/spec/v1\nsize 7\n",
    ),
    "playlist": ("unreadable", lambda: b"#EXTM3U\n#EXTINF:10,\nvideo.mp4\n"),
    "list of itself": ("unreadable", lambda: b"ffconcat version 1.0\nfile a.mp4\n"),
    "connection": ("unreadable", lambda: b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    "zip": ("unreadable", lambda: content(write_zip)),
    "wave": ("no video stream", lambda: content(write_wave)),
    "start of an mp4": ("truncated", lambda: source("mp4")[0][:100]),
    "name of an mp4": ("unreadable", lambda: source("mp4")[0][:32]),
    "frames without a table": ("unreadable", lambda: source("mp4")[0].replace(b"moov", b"none")),
    "table without frames": ("truncated", write_table_alone),
    "signature of a webm": ("unreadable", lambda: b"\x1aE\xdf\xa3"),
    "signature of an avi": ("truncated", lambda: b"RIFF\xff\x00\x00\x00AVI "),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_only_named_like_a_video_is_told_apart(tmp_path, name):
    kind, make = CONTENTS[name]
    for extension in (".mp4", ".avi", ".webm"):
        path = tmp_path / f"a{extension}"
        path.write_bytes(make())
        assert read(path, tmp_path).kind == kind, extension


def write_large_key_frame(folder):
    """Writes VP8 whose first frame is 12000x12000, although the header says 48x32."""
    path = pathlib.Path(write_video(folder / "a.webm", codec="libvpx"))
    key = packet_bytes(path)[0]
    side = (12000).to_bytes(2, "little")
    path.write_bytes(path.read_bytes().replace(key, key[:6] + side + side + key[10:]))
    return path


def write_nothing(folder):
    return folder / "a.mp4"


def write_named_folder(folder):
    (folder / "a.mp4").mkdir()
    return folder / "a.mp4"


def write_link(target):
    def write(folder):
        (folder / "a.mp4").symlink_to(target)
        return folder / "a.mp4"

    return write


def write_pipe(folder):
    os.mkfifo(folder / "a.mp4")
    return folder / "a.mp4"


def write_below_a_file(folder):
    (folder / "a").touch()
    return folder / "a" / "b.mp4"


def write_forbidden(folder):
    (folder / "a.mp4").write_bytes(source("mp4")[0])
    (folder / "a.mp4").chmod(0)
    return folder / "a.mp4"


def write_empty_shard(folder):
    (folder / "a.tfrecord").touch()
    return f"{folder}/a.tfrecord#0"


def write_folder_named_shard(folder):
    (folder / "a.tfrecord").mkdir()
    return f"{folder}/a.tfrecord#0"


# Name -> kind of the error, and function that makes the path.
SPECIAL = {
    "only sound": ("no video stream", lambda folder: write_audio(folder / "a.avi", "pcm_s16le")),
    "a folder named .mp4": ("unreadable", write_named_folder),
    "a link to itself": ("missing", write_link("a.mp4")),
    "a link to nothing": ("missing", write_link("none.mp4")),
    "an endless device": ("missing", write_link("/dev/zero")),
    "a pipe": ("missing", write_pipe),
    "nothing": ("missing", write_nothing),
    "a folder that is a file": ("missing", write_below_a_file),
    "a name that is too long": ("missing", lambda folder: folder / ("a" * 300 + ".mp4")),
    "a name with a null byte": ("missing", lambda folder: f"{folder}/a\0.mp4"),
    "no permission": ("unreadable", write_forbidden),
    "AVI of 30000x30000": (None, lambda folder: write_stated_size(folder / "a.avi", 30000, 30000)),
    "AVI of no size": (None, lambda folder: write_stated_size(folder / "a.avi", 0, 0)),
    "frame larger than the header says": ("unreadable", write_large_key_frame),
    "a shard that is gone": ("missing", lambda folder: f"{folder}/train-00000-of-00001.tfrecord#0"),
    "an empty shard": ("truncated", write_empty_shard),
    "a shard that is a folder": ("unreadable", write_folder_named_shard),
    "after the end of a shard": ("truncated", lambda folder: f"{write_shard(folder)[0]}#{10**9}"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_cannot_be_a_clip_is_named(tmp_path, name):
    if name == "no permission" and not os.getuid():
        pytest.skip("root may read all files")
    kind, make = SPECIAL[name]
    error = read(make(tmp_path), tmp_path)
    assert isinstance(error, VideoError) and kind in (None, error.kind)


def test_a_link_to_a_video_and_a_header_that_lies_about_its_size_change_no_frame(tmp_path):
    data, expected, _ = source("mp4")
    (tmp_path / "none.dat").write_bytes(data)
    np.testing.assert_array_equal(read(write_link("none.dat")(tmp_path), tmp_path), expected)
    data = bytearray(data)
    # The VisualSampleEntry.
    struct.pack_into(">HH", data, data.index(b"avc1", data.index(b"stsd")) + 28, 30000, 30000)
    (tmp_path / "none.dat").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "a.mp4", tmp_path), expected)


# Contents that replace the fourth frame.
FRAMES = {
    "empty": lambda: b"",
    "text": lambda: b"This is no picture.",
    "GIF": lambda: b"GIF89a" + jpegs()[3],
    "of another size": lambda: tf.io.encode_jpeg(np.zeros((64, 48, 3), "uint8")).numpy(),
    "65500x65500": lambda: state_jpeg_size(jpegs()[3], 65500, 65500),
    "0x0": lambda: state_jpeg_size(jpegs()[3], 0, 0),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_is_none_is_an_error(tmp_path, name):
    path, _ = write_folder(tmp_path, f4=FRAMES[name]())
    assert read(path, tmp_path).kind == "unreadable"


@pytest.mark.parametrize("replace", [pathlib.Path.mkdir, os.mkfifo, lambda path: path.symlink_to("none")])
def test_a_frame_that_is_no_file_is_missing(tmp_path, replace):
    path, _ = write_folder(tmp_path)
    (path / "00004.jpg").unlink()
    replace(path / "00004.jpg")
    assert read(path, tmp_path).kind == "missing"


def test_hidden_files_beside_frames_are_no_frames(tmp_path):
    path, original = write_folder(tmp_path)
    for file in list(path.iterdir()):
        (path / f"._{file.name}").write_bytes(b"Mac OS X")
    np.testing.assert_array_equal(read(path, tmp_path), original)


def test_a_data_set_leaves_out_what_cannot_be_read_and_no_other_clip(tmp_path):
    """The class folders contain good videos, damaged videos, and other files that can be there."""
    # With a validation folder, no training clips are set apart for validation.
    for folder in ("train/bad", "train/good", "val"):
        (tmp_path / folder).mkdir(parents=True)
    bad = tmp_path / "train" / "bad"
    for container in ("mp4", "webm", "avi"):
        data, _, extension = source(container)
        for fault in ("cut off", "a wrong bit", "noise", "a part lost"):
            (bad / f"{container} {fault}{extension}").write_bytes(next(damaged(data, fault)))
    (bad / "link.mp4").symlink_to("none.mp4")
    os.mkfifo(bad / "pipe.mp4")
    (bad / "zip.mp4").write_bytes(content(write_zip))
    write_audio(bad / "sound.mp4")
    good = {write_video(tmp_path / "train" / "good" / f"{i}.mp4", 4, brightness=10 + i) for i in range(6)}
    dataset = open_dataset("folder", str(tmp_path))
    paths = [path for path, _ in dataset.records]
    settings = {"num_frames": 4, "image_size": 32}
    expected = {}
    for path in paths:
        with contextlib.suppress(VideoError):
            expected[path] = read_views(path, **settings)[0]
    assert good < set(expected) and 6 < len(paths) - len(expected)

    left_out = LeftOut(len(paths), max_unreadable=1)
    with nothing_left(tmp_path):
        batches = make_pipeline(dataset, batch_size=5, workers=4, left_out=left_out, **settings)
        clips = [
            (clip, label) for batch in batches.as_numpy_iterator() for clip, label in zip(*batch, strict=True)
        ]
        del batches
    assert set(left_out.reasons) == set(paths) - set(expected)
    assert [label for _, label in clips] == [label for path, label in dataset.records if path in expected]
    for (clip, _), right in zip(clips, expected.values(), strict=True):
        np.testing.assert_allclose(clip, right, atol=1e-3)
