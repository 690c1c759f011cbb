"""Media files that are damaged, lie or are none: the right frames or an error that names the file.

`tests/data/test_broken_files.py` cuts and damages at more places; here are more ways and kinds of files.
"""

import contextlib
import faulthandler
import functools
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import typing
import wave
import zipfile

import numpy as np
import psutil
import pytest
import tensorflow as tf

from keras_stm.data import frames, jpeg, make_pipeline, open_dataset, packed
from keras_stm.data.catalog import Dataset
from keras_stm.data.left_out import LeftOut
from keras_stm.data.video import KINDS, MAX_BYTES, VideoError
from keras_stm.data.views import read_views
from tests.data.videos import (
    decode_all,
    packet_bytes,
    state_jpeg_size,
    write_audio,
    write_avi,
    write_faststart,
    write_fragmented_mp4,
    write_mp4,
    write_stated_frames,
    write_stated_size,
    write_video,
    write_webm,
)

pytestmark = pytest.mark.slow

PLACES = 6
# Bytes that are damaged, lost, moved.
SIZE = 200
# Seconds after which reading a file of a few kilobytes counts as hanging.
HANGS = 60


def write_mkv(folder):
    return write_video(folder / "video.mkv", options={"bf": "2", "g": "10"})


CONTAINERS = {
    "mp4": write_mp4,
    "faststart mp4": write_faststart,
    "fragmented mp4": write_fragmented_mp4,
    "webm": write_webm,
    "avi": write_avi,
    "mkv": write_mkv,
}


def flip_bit(data, start, rng):
    return data[:start] + bytes([data[start] ^ 1 << rng.integers(8)]) + data[start + 1 :]


FAULTS = {
    "cut off": lambda data, start, rng: data[:start],
    "without its front": lambda data, start, rng: data[start:],
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


def damaged(data, fault, place):
    start = round((len(data) - 2 * SIZE) * (place + 0.5) / PLACES)
    return FAULTS[fault](data, start, np.random.default_rng(place))


@functools.cache
def source(container):
    """A whole file's bytes, its frames and its extension."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(CONTAINERS[container](pathlib.Path(folder)))
        return path.read_bytes(), decode_all(str(path)), path.suffix


@functools.cache
def jpegs():
    """The bytes of eight frames of noise, 48x64."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 8, 3), "uint8")
    return [tf.io.encode_jpeg(image.repeat(8, axis=0).repeat(8, axis=1)).numpy() for image in noise]


class Case(typing.NamedTuple):
    """Something to read, and what is to come of it."""

    name: str
    # (folder) -> path and, where they are known, the frames that it was made of.
    make: typing.Callable
    # A kind of error; "error", any; "frames", those; "first frames", some of those or an error; "frames or
    # error", all of those or an error; "anything", any frames or an error.
    expected: str


def damaged_video(container, fault, place):
    def make(folder):
        data, original, extension = source(container)
        path = folder / f"damaged{extension}"
        path.write_bytes(damaged(data, fault, place))
        return path, original

    expected = "anything"
    if fault == "cut off":
        # Of a fragmented file a cut between two fragments leaves one that is whole.
        expected = "first frames" if container == "fragmented mp4" else "error"
    return Case(f"{container}: {fault}, {place}", make, expected)


def write_folder(folder, **changes):
    """A folder of frames, those of the numbers `f1` to `f8` changed."""
    path = folder / "frames"
    path.mkdir()
    for i, image in enumerate(jpegs(), 1):
        (path / f"{i:05d}.jpg").write_bytes(changes.get(f"f{i}", image))
    return path, jpeg.decode(jpegs())


def damaged_folder(fault, place):
    def make(folder):
        return write_folder(folder, f4=damaged(jpegs()[3], fault, place))

    # JPEG has no checksums.
    return Case(f"JPEGs: {fault}, {place}", make, "unreadable" if fault == "cut off" else "anything")


def write_shard(folder):
    """A shard of three clips: its path and where each starts."""
    clips = [(i, f"{i}.mp4", i, packed.PackedClip(jpegs()[i : i + 5], 48, 64)) for i in range(3)]
    settings = {"fingerprint": "", "num_shards": 1}
    packed.write_shard(str(folder), "train", 0, settings, clips)
    (_, _, sidecar), *_ = packed.read_sidecars(str(folder))
    return folder / packed.shard_name("train", 0, 1), [start for _, start, *_ in sidecar["clips"]]


def damaged_shard(fault, place):
    def make(folder):
        shard, starts = write_shard(folder)
        shard.write_bytes(damaged(shard.read_bytes(), fault, place))
        clip = place % 3
        return f"{shard}#{starts[clip]}", jpeg.decode(jpegs()[clip : clip + 5])

    return Case(f"packed: {fault}, {place}", make, "frames or error")


def special(name, expected):
    """Registers a function that makes a `Case` of its own; it may return the path alone."""

    def register(make):
        def make_both(folder):
            made = make(folder)
            return made if isinstance(made, tuple) else (made, None)

        SPECIAL.append(Case(name, make_both, expected))
        return make

    return register


SPECIAL = []

# File names that FFmpeg, a shell, a pattern or an encoding could take for something else.
NAMES = [
    *("a\nb.mp4", "a\tb.mp4", "a b.mp4", "'a'.mp4", '"a".mp4', "$(a).mp4", "a;b.mp4", "a\\b.mp4", "-i.mp4"),
    *(
        "10:30.mp4",
        "pipe:0.mp4",
        "concat:a|b.mp4",
        "file:a.mp4",
        "http:a.mp4",
        "a?b#c.mp4",
        "a.tfrecord#7.mp4",
    ),
    *(
        "%03d.mp4",
        "*.mp4",
        "[a].mp4",
        "{a}.mp4",
        "~.mp4",
        "...mp4",
        ".mp4",
        "ÄÖ\u0308.mp4",
        "视频.mp4",
        "🎬.mp4",
    ),
    *("\u202ea.mp4", "a" * 251 + ".mp4", os.fsdecode(b"\xff\xfe.mp4"), "a.MP4"),
]
for name in NAMES:

    @special(f"named {name[:20]!r}", "frames")
    def _(folder, name=name):
        (folder / name).write_bytes(source("mp4")[0])
        return folder / name, source("mp4")[1]


for container, extension in [
    ("mp4", ".avi"),
    ("mp4", ".webm"),
    ("webm", ".mp4"),
    ("avi", ".mkv"),
    ("mkv", ".mp4"),
]:

    @special(f"{container} named {extension}", "frames")
    def _(folder, container=container, extension=extension):
        (folder / f"a{extension}").write_bytes(source(container)[0])
        return folder / f"a{extension}", source(container)[1]


for container in CONTAINERS:

    @special(f"{container}: all zeros", "unreadable")
    def _(folder, container=container):
        data, _, extension = source(container)
        (folder / f"a{extension}").write_bytes(bytes(len(data)))
        return folder / f"a{extension}"

    @special(f"{container}: empty", "unreadable")
    def _(folder, container=container):
        path = folder / f"a{source(container)[2]}"
        path.touch()
        return path

    @special(f"{container}: twice in one file", "anything")
    def _(folder, container=container):
        data, _, extension = source(container)
        (folder / f"a{extension}").write_bytes(data + data)
        return folder / f"a{extension}"

    @special(f"{container}: with something behind it", "frames")
    def _(folder, container=container):
        data, original, extension = source(container)
        (folder / f"a{extension}").write_bytes(data + b"TAG" * 50)
        return folder / f"a{extension}", original


for extension, codec in [
    (".mp4", "libx264"),
    (".avi", "mpeg4"),
    (".mkv", "libx264"),
    (".webm", "libvpx-vp9"),
]:
    for number, expected in [(0, "error"), (1, "frames")]:

        @special(f"{extension} of {number} frames", expected)
        def _(folder, extension=extension, codec=codec, number=number):
            path = write_video(folder / f"a{extension}", number, codec)
            return path, decode_all(path) if number else None


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


# What is named like a video but is none.
CONTENTS = {
    "text": ("unreadable", lambda: b"This is no video.\n" * 100),
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
    "table without frames": ("error", lambda: source("mp4")[0].replace(b"mdat", b"free", 1)[:32] + moov()),
    "signature of a webm": ("unreadable", lambda: b"\x1aE\xdf\xa3"),
    "signature of an avi": ("truncated", lambda: b"RIFF\xff\x00\x00\x00AVI "),
    "noise": ("unreadable", lambda: np.random.default_rng(0).bytes(5000)),
}


def moov():
    data = source("mp4")[0]
    return data[data.index(b"moov") - 4 :]


for name, (expected, make) in CONTENTS.items():
    for extension in (".mp4", ".avi", ".webm"):

        @special(f"{name} named {extension}", expected)
        def _(folder, make=make, extension=extension):
            (folder / f"a{extension}").write_bytes(make())
            return folder / f"a{extension}"


@special("picture named .mp4", "anything")
def _(folder):
    (folder / "a.mp4").write_bytes(jpegs()[0])
    return folder / "a.mp4"


for extension, codec in [(".mp4", "aac"), (".mkv", "aac"), (".avi", "pcm_s16le"), (".mov", "pcm_s16le")]:

    @special(f"sound alone in {extension}", "no video stream")
    def _(folder, extension=extension, codec=codec):
        return write_audio(folder / f"a{extension}", codec)


@special("a folder named .mp4", "unreadable")
def _(folder):
    (folder / "a.mp4").mkdir()
    return folder / "a.mp4"


@special("a link to itself", "missing")
def _(folder):
    (folder / "a.mp4").symlink_to(folder / "a.mp4")
    return folder / "a.mp4"


@special("two links to each other", "missing")
def _(folder):
    (folder / "a.mp4").symlink_to(folder / "b.mp4")
    (folder / "b.mp4").symlink_to(folder / "a.mp4")
    return folder / "a.mp4"


@special("a link to nothing", "missing")
def _(folder):
    (folder / "a.mp4").symlink_to(folder / "none.mp4")
    return folder / "a.mp4"


@special("a link to a video", "frames")
def _(folder):
    (folder / "none.dat").write_bytes(source("mp4")[0])
    (folder / "a.mp4").symlink_to(folder / "none.dat")
    return folder / "a.mp4", source("mp4")[1]


@special("a device without end", "missing")
def _(folder):
    (folder / "a.mp4").symlink_to("/dev/zero")
    return folder / "a.mp4"


@special("a pipe", "missing")
def _(folder):
    os.mkfifo(folder / "a.mp4")
    return folder / "a.mp4"


@special("nothing", "missing")
def _(folder):
    return folder / "a.mp4"


@special("a folder that is a file", "missing")
def _(folder):
    (folder / "a").touch()
    return folder / "a" / "b.mp4"


@special("a name that is too long", "missing")
def _(folder):
    return folder / ("a" * 300 + ".mp4")


@special("a name with a null byte", "missing")
def _(folder):
    return f"{folder}/a\0.mp4"


if os.getuid():

    @special("no permission", "unreadable")
    def _(folder):
        (folder / "a.mp4").write_bytes(source("mp4")[0])
        (folder / "a.mp4").chmod(0)
        return folder / "a.mp4"


for height, width, expected in [
    (30000, 30000, "error"),
    (8000, 8000, "too large"),
    (2, 16000, "too large"),
    (16000, 2, "too large"),
    (0, 0, "error"),
    (2**31 - 1, 2**31 - 1, "error"),
]:

    @special(f"AVI that states {width}x{height}", expected)
    def _(folder, height=height, width=width):
        return write_stated_size(folder / "a.avi", height, width)


@special("mp4 that states 30000x30000, its frames do not", "frames")
def _(folder):
    data = bytearray(source("mp4")[0])
    # The VisualSampleEntry.
    struct.pack_into(">HH", data, data.index(b"avc1", data.index(b"stsd")) + 28, 30000, 30000)
    (folder / "a.mp4").write_bytes(data)
    return folder / "a.mp4", source("mp4")[1]


@special("mp4 that states 80 million frames", "too large")
def _(folder):
    return write_stated_frames(folder / "a.mp4", 80_000_000)


def write_large_key_frame(folder):
    """VP8 whose first frame is 12000x12000 where the header says 48x32."""
    path = pathlib.Path(write_video(folder / "a.webm", codec="libvpx"))
    key = packet_bytes(path)[0]
    side = (12000).to_bytes(2, "little")
    path.write_bytes(path.read_bytes().replace(key, key[:6] + side + side + key[10:]))
    return path


special("frame larger than the header says", "unreadable")(write_large_key_frame)

# In the place of the fourth frame.
FRAMES = {
    "empty": ("unreadable", lambda: b""),
    "text": ("unreadable", lambda: b"This is no picture."),
    "PNG": ("unreadable", lambda: tf.io.encode_png(np.zeros((48, 64, 3), "uint8")).numpy()),
    "of another size": ("unreadable", lambda: tf.io.encode_jpeg(np.zeros((64, 48, 3), "uint8")).numpy()),
    "65500x65500": ("unreadable", lambda: state_jpeg_size(jpegs()[3], 65500, 65500)),
    "65535x65535": ("unreadable", lambda: state_jpeg_size(jpegs()[3], 65535, 65535)),
    "0x0": ("unreadable", lambda: state_jpeg_size(jpegs()[3], 0, 0)),
    "taller than it is": ("anything", lambda: state_jpeg_size(jpegs()[3], 49, 64)),
}
for name, (expected, make) in FRAMES.items():

    @special(f"a frame that is {name}", expected)
    def _(folder, make=make):
        return write_folder(folder, f4=make())


for name, expected, height, width in [
    ("all frames state 65500x65500", "too large", 65500, 65500),
    ("all frames are 16x60000", "too large", 60000, 16),
]:

    @special(name, expected)
    def _(folder, height=height, width=width):
        image = state_jpeg_size(jpegs()[0], height, width)
        return write_folder(folder, **{f"f{i}": image for i in range(1, 9)})


for name, replace in {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("none"),
}.items():

    @special(f"a frame that is {name}", "missing")
    def _(folder, replace=replace):
        path, original = write_folder(folder)
        (path / "00004.jpg").unlink()
        replace(path / "00004.jpg")
        return path, original


@special("a folder with a hidden file for each frame", "frames")
def _(folder):
    path, original = write_folder(folder)
    for file in list(path.iterdir()):
        (path / f"._{file.name}").write_bytes(b"Mac OS X")
    return path, original


@special("a clip of a shard that is gone", "missing")
def _(folder):
    return f"{folder}/train-00000-of-00001.tfrecord#0"


@special("a clip of an empty shard", "truncated")
def _(folder):
    (folder / "a.tfrecord").touch()
    return f"{folder}/a.tfrecord#0"


@special("a clip of a shard that is a folder", "unreadable")
def _(folder):
    (folder / "a.tfrecord").mkdir()
    return f"{folder}/a.tfrecord#0"


@special("a clip behind the end of its shard", "truncated")
def _(folder):
    shard, _ = write_shard(folder)
    return f"{shard}#{10**9}"


@special("more frames than can be listed", "too large")
def _(folder):
    """Three million bytes that take no room on the disk, each a frame."""
    count = 3_000_000
    path = pathlib.Path(write_stated_frames(folder / "a.mp4", count))
    data = bytearray(path.read_bytes().replace(b"mdat", b"free"))
    struct.pack_into(">I", data, data.index(b"stco") + 12, len(data) + 8)
    path.write_bytes(data + struct.pack(">I", 8 + count) + b"mdat")
    os.truncate(path, len(data) + 8 + count)
    return path


@special("frames of three gigabytes", "too large")
def _(folder):
    path, original = write_folder(folder)
    for file in path.iterdir():
        os.truncate(file, 3 * 2**30)
    return path, original


@special("a header of a gigabyte", "too large")
def _(folder):
    with open(folder / "a.tfrecord", "wb") as file:
        file.write((2**30).to_bytes(8, "little"))
    os.truncate(folder / "a.tfrecord", 2**30 + 16)
    return f"{folder}/a.tfrecord#0"


CASES = [
    *(
        damaged_video(container, fault, place)
        for container in CONTAINERS
        for fault in FAULTS
        for place in range(PLACES)
    ),
    *(
        make(fault, place)
        for make in (damaged_folder, damaged_shard)
        for fault in FAULTS
        for place in (1, 3, 5)
    ),
    *SPECIAL,
]


def test_the_campaign_is_as_large_as_it_says():
    assert len(CASES) >= 500
    assert len({case.name for case in CASES}) == len(CASES)


@contextlib.contextmanager
def nothing_left(folder):
    """Fails where a block hangs, leaves files in a folder, or files open."""
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


def read(path):
    """Frames, or the `VideoError`."""
    try:
        return frames.read_frames(path, range)
    except VideoError as error:
        return error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.encode("ascii", "replace").decode())
def test_frames_are_right_or_an_error_names_the_file(case, tmp_path):
    path, original = case.make(tmp_path)
    with nothing_left(tmp_path):
        found = read(path)
        if isinstance(found, VideoError):
            assert str(found).startswith(f"{path}: ") and found.path == str(path)
            assert "\n" not in str(found).removeprefix(str(path))
            assert found.kind in KINDS
            assert case.expected in (found.kind, "error", "first frames", "frames or error", "anything"), (
                found
            )
            return
        assert found.dtype == np.uint8 and found.ndim == 4 and found.shape[3] == 3
        assert frames.count_frames(path) == frames.probe(path).num_frames == len(found) > 0
    assert case.expected in ("frames", "first frames", "frames or error", "anything"), case.expected
    if case.expected != "anything":
        np.testing.assert_array_equal(
            found, original[: len(found)] if case.expected == "first frames" else original
        )


def test_a_data_set_leaves_out_what_cannot_be_read_and_no_other_clip(tmp_path):
    """Every fourth damaged video and what else can lie in a class folder, among good ones."""
    videos = CASES[: len(CONTAINERS) * len(FAULTS) * PLACES : 4]
    others = [
        case for case in SPECIAL if case.name.startswith(("a link", "a pipe", "a device", "sound", "zip"))
    ]
    good = set()
    # The folder for validation, so that none are set apart.
    for folder in ("train/bad", "train/good", "val"):
        (tmp_path / folder).mkdir(parents=True)
    for i, case in enumerate([*videos, *others]):
        (tmp_path / "made").mkdir(exist_ok=True)
        path = pathlib.Path(case.make(tmp_path / "made")[0])
        path.rename(tmp_path / "train" / "bad" / f"{i:03d}{path.suffix}")
        if i % 4 == 0:
            good.add(write_video(tmp_path / "train" / "good" / f"{i:03d}.mp4", 4, brightness=10 + i))
    dataset = open_dataset("folder", str(tmp_path))
    paths = [path for path, _ in dataset.records]
    settings = {"num_frames": 4, "image_size": 32}
    expected = {}
    for path in paths:
        with contextlib.suppress(VideoError):
            expected[path] = read_views(path, **settings)[0]
    assert good <= set(expected) and 20 < len(paths) - len(expected)

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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the memory of a process cannot be limited")
def test_what_is_too_large_takes_less_than_a_gigabyte_to_find_out(tmp_path):
    expected = {}
    for i, case in enumerate(case for case in SPECIAL if case.expected == "too large"):
        (tmp_path / str(i)).mkdir()
        expected[str(case.make(tmp_path / str(i))[0])] = "too large"
    (tmp_path / "key").mkdir()
    expected[str(write_large_key_frame(tmp_path / "key"))] = "unreadable"
    for extension, codec in [(".mp4", "libx264"), (".webm", "libvpx-vp9")]:
        options = {"preset": "ultrafast", "deadline": "realtime", "cpu-used": "8"}
        expected[write_video(tmp_path / f"8k{extension}", 1, codec, options, 4104, 8192)] = "too large"
    assert len(expected) >= 12
    assert in_new_process(read_in_a_gigabyte, write_mp4(tmp_path), *expected) == expected


def read_in_a_gigabyte(good, *paths):
    """Reads a video, then others with no more than a gigabyte of memory left; what is wrong with them."""
    import resource

    assert not read_in_every_way(good)
    limit = psutil.Process().memory_info().vms + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return {path: read_in_every_way(good, path).get(path) for path in paths}


def read_in_every_way(*paths):
    """The kind of error of each path that cannot be read as views, nor for training or evaluation."""
    kinds = {}
    for path in paths:
        try:
            read_views(path, crops=3)
        except VideoError as error:
            kinds[path] = error.kind
    dataset = Dataset([(path, 0) for path in paths], ("a", "b"))
    for settings in ({"training": True, "scales": (1,)}, {}):
        left_out = LeftOut(len(paths), max_unreadable=1)
        for _ in make_pipeline(dataset, batch_size=1, workers=1, left_out=left_out, **settings):
            pass
        assert set(left_out.reasons) == set(kinds)
    return kinds


def in_new_process(function, *arguments):
    command = f"import json, sys; from {__name__} import {function.__name__} as function; "
    command += "print(json.dumps(function(*sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of the memory is not to be had")
def test_reading_and_preparing_a_clip_takes_at_most_five_times_its_frames(tmp_path):
    assert 5 * MAX_BYTES == 10 * 2**30
    small, large = (
        write_video(tmp_path / f"{side}.mp4", 8, options={"preset": "ultrafast"}, height=side, width=side)
        for side in (256, 2896)
    )
    assert in_new_process(peak, small, large) < 5 * 8 * 2896 * 2896 * 3


def peak(small, large):
    """Bytes that reading and preparing the frames of one video take more than those of another."""

    def measure(name):
        with open("/proc/self/status") as file:
            return 1024 * int(next(line for line in file if line.startswith(name)).split()[1])

    assert not read_in_every_way(small)
    before = measure("VmRSS")
    assert not read_in_every_way(large)
    return measure("VmHWM") - before
