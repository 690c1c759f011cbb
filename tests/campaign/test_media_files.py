"""The memory that reading media files takes, and many faults in files from phones, camcorders and browsers.

See `tests/data/test_broken_files.py` for what is read.
"""

import collections
import functools
import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tensorflow as tf
from av.stream import Disposition

from keras_stm.data import Dataset, make_pipeline
from keras_stm.data.left_out import LeftOut
from keras_stm.data.video import MAX_BYTES, VideoError, iterate_frames, read_frames
from keras_stm.data.views import read_views
from tests.data.field_pictures import write_fields
from tests.data.test_broken_files import FAULTS, SIZE, read, write_large_key_frame
from tests.data.videos import (
    copy_video,
    join,
    put_together,
    state_jpeg_size,
    write_mp4,
    write_stated_frames,
    write_stated_size,
    write_video,
)

pytestmark = pytest.mark.slow


def write_bare_pixels(folder):
    return write_stated_size(folder / "a.avi", 8000, 8000)


def write_table(folder):
    return write_stated_frames(folder / "a.mp4", 80_000_000)


def write_many_frames(folder):
    """Writes a sparse MP4 file whose tables state three million frames of one byte each."""
    count = 3_000_000
    path = pathlib.Path(write_stated_frames(folder / "a.mp4", count))
    data = bytearray(path.read_bytes().replace(b"mdat", b"free"))
    struct.pack_into(">I", data, data.index(b"stco") + 12, len(data) + 8)
    path.write_bytes(data + struct.pack(">I", 8 + count) + b"mdat")
    os.truncate(path, len(data) + 8 + count)
    return path


def write_8k(folder):
    return write_video(folder / "a.mp4", 1, options={"preset": "ultrafast"}, height=4104, width=8192)


def write_large_jpegs(folder):
    image = tf.io.encode_jpeg(np.zeros((48, 64, 3), "uint8")).numpy()
    for i in range(8):
        (folder / f"{i}.jpg").write_bytes(state_jpeg_size(image, 65500, 65500))
    return folder


def write_gigabytes(folder):
    for i in range(8):
        (folder / f"{i}.jpg").touch()
        os.truncate(folder / f"{i}.jpg", 3 * 2**30)
    return folder


def write_large_header(folder):
    with open(folder / "a.tfrecord", "wb") as file:
        file.write((2**30).to_bytes(8, "little"))
    os.truncate(folder / "a.tfrecord", 2**30 + 16)
    return f"{folder}/a.tfrecord#0"


TOO_LARGE = [
    write_bare_pixels,
    write_table,
    write_many_frames,
    write_8k,
    write_large_jpegs,
    write_gigabytes,
    write_large_header,
]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux states the memory of a process in /proc")
def test_a_clip_takes_at_most_five_times_its_frames_and_what_is_too_large_less_than_a_gigabyte(tmp_path):
    assert 5 * MAX_BYTES == 10 * 2**30
    small, large = (
        write_video(tmp_path / f"{side}.mp4", 8, options={"preset": "ultrafast"}, height=side, width=side)
        for side in (256, 2896)
    )
    expected = {}
    for write in (*TOO_LARGE, write_large_key_frame):
        (tmp_path / write.__name__).mkdir()
        kind = "unreadable" if write is write_large_key_frame else "too large"
        expected[str(write(tmp_path / write.__name__))] = kind
    for way in WAYS:
        assert in_new_process(measure_peak, way, small, large) < 5 * 8 * 2896 * 2896 * 3, way
    assert in_new_process(refuse_large_files, write_mp4(tmp_path), *expected) == expected


def in_new_process(function, *arguments):
    command = f"import json, sys; from {__name__} import {function.__name__} as function; "
    command += "print(json.dumps(function(*sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def measure_peak(way, small, large):
    """Measures the memory that reading and preprocessing take.

    It needs a process of its own: freed memory of another way would count as this one's.

    Returns:
        The bytes that the large video takes in addition to the small one.
    """
    WAYS[way](small)
    before = read_status("VmRSS")
    WAYS[way](large)
    return read_status("VmHWM") - before


def read_status(name):
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith(name)).split()[1])


def refuse_large_files(good, *too_large):
    """Returns a dictionary of path -> kind of the error, with only a gigabyte more of memory allowed."""
    import resource

    for way in WAYS.values():
        way(good)
    limit = psutil.Process().memory_info().vms + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for way in WAYS.values():
        way(good)
    kinds = {}
    for path in too_large:
        try:
            read_views(path)
        except VideoError as error:
            kinds[path] = error.kind
    return kinds


def read_by_pipeline(path, **settings):
    left_out = LeftOut(1, max_unreadable=0)
    dataset = Dataset([(path, 0)], ("a", "b"))
    for _ in make_pipeline(dataset, batch_size=1, workers=1, left_out=left_out, **settings):
        pass


WAYS = {
    "views": functools.partial(read_views, crops=3),
    "training": functools.partial(read_by_pipeline, training=True, scales=(1,)),
    "evaluation": read_by_pipeline,
}


def write_joined(folder):
    parts = [write_video(folder / f"{i}.webm", codec="libvpx-vp9", brightness=20 + 80 * i) for i in range(2)]
    return join(folder / "joined.webm", *parts)


def write_joined_ts(folder):
    parts = [write_video(folder / f"{i}.ts", options={"bf": "2"}, brightness=20 + 80 * i) for i in range(3)]
    return join(folder / "joined.ts", *parts)


def write_new_size(folder):
    parts = [
        write_video(folder / f"{i}.ts", options={"bf": "0"}, height=32 + 32 * i, brightness=80)
        for i in range(2)
    ]
    return join(folder / "sizes.ts", *parts)


def write_streams(folder):
    cover = write_video(folder / "cover.mkv", 1, "mjpeg", pixels="yuvj420p")
    parts = [cover, write_video(folder / "a.mkv", 12), write_video(folder / "b.mkv", 24)]
    return put_together(folder / "streams.mkv", parts, [Disposition(0)] * 3)


def write_turned(folder):
    return copy_video(write_mp4(folder), folder / "turned.mov", degrees=90, options={"movflags": "faststart"})


def write_ts_fields(folder):
    return write_fields(folder, range(40, 220, 8), ".ts", ("fields", "frame"))


def write_mp4_fields(folder):
    return write_fields(folder, range(40, 220, 8), ".mp4")


FIELD_FILES = [
    write_joined,
    write_joined_ts,
    write_new_size,
    write_streams,
    write_turned,
    write_ts_fields,
    write_mp4_fields,
]


@pytest.mark.parametrize("write", FIELD_FILES)
def test_files_from_the_field_with_faults_give_frames_or_an_error(tmp_path, write):
    """Every fault at many places; each file without a fault is read like by decoding all of it."""
    (tmp_path / "source").mkdir()
    source = pathlib.Path(write(tmp_path / "source"))
    expected = np.stack([*iterate_frames(source)])
    np.testing.assert_array_equal(read_frames(source, range), expected)
    data = source.read_bytes()
    (tmp_path / "damaged").mkdir()
    path = tmp_path / "damaged" / f"damaged{source.suffix}"
    kinds = collections.Counter()
    for name, fault in FAULTS.items():
        for place in range(30):
            start = round((len(data) - 2 * SIZE) * (place + 0.5) / 30)
            path.write_bytes(fault(data, start, np.random.default_rng(place)))
            found = read(path, tmp_path / "damaged")
            kinds[name, getattr(found, "kind", "frames")] += 1
    # A cut is never taken for a whole file, except between two packets of MPEG-TS.
    assert kinds["cut off", "truncated"] >= 28, kinds
    assert sum(count for (_, kind), count in kinds.items() if kind == "frames") > 0, kinds
