"""Small video files for tests."""

import contextlib
import fractions
import pathlib
import struct

import av
import numpy as np

from keras_stm.data import frames
from keras_stm.data.video import KINDS as ERROR_KINDS
from keras_stm.data.video import VideoError

# Codec, options and extension. The data sets use these three containers.
KINDS = {
    "h264 with B-frames": ("libx264", {"bf": "2", "g": "10"}, ".mp4"),
    "h264 of key frames": ("libx264", {"bf": "0", "g": "1"}, ".mp4"),
    "mpeg4 with B-frames": ("mpeg4", {"bf": "2", "g": "10", "qscale": "3"}, ".avi"),
    "mpeg4": ("mpeg4", {"g": "12", "qscale": "3"}, ".avi"),
    "vp9": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}, ".webm"),
}


def write_video(
    path,
    num_frames=30,
    codec="libx264",
    options=None,
    height=32,
    width=48,
    brightness=None,
    times=None,
    tag=None,
    pixels="yuv420p",
):
    """Writes frames of noise with values from `brightness` to `brightness` + 39.

    By default the brightness grows from 0 to almost 200. The noise moves, so that codecs that can store
    frames as differences do so. `times` are the display times of the frames in milliseconds.
    """
    noise = np.random.default_rng(0).integers(0, 40, (height // 8, width // 8, 3))
    noise = noise.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=1000 if times else 10, options=options or {})
        video.height, video.width, video.pix_fmt = height, width, pixels
        video.codec_context.thread_count = 1
        if tag:
            video.codec_context.codec_tag = tag
        for i in range(num_frames):
            mean = 200 * i // num_frames if brightness is None else brightness
            array = (np.roll(noise, i, axis=1) + mean).astype("uint8")
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[i], fractions.Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return str(path)


def write_mp4(folder):
    return write_video(folder / "plain.mp4", options={"bf": "2", "g": "10"})


def write_faststart(folder):
    return copy_video(write_mp4(folder), folder / "faststart.mp4", options={"movflags": "faststart"})


def write_webm(folder):
    return write_video(folder / "video.webm", codec="libvpx-vp9", options={"g": "10"})


def write_avi(folder):
    return write_video(folder / "video.avi", codec="mpeg4", options={"bf": "2", "g": "10"})


def write_live_webm(folder):
    """Writes WebM like a broadcast, which does not state its length."""
    return copy_video(write_webm(folder), folder / "live.webm", options={"live": "1"})


def write_fragmented_mp4(folder):
    flags = {"movflags": "frag_keyframe+empty_moov"}
    return copy_video(write_mp4(folder), folder / "fragmented.mp4", options=flags)


def write_audio(path, codec="aac"):
    """Writes a file whose only stream is sound."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream(codec, rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "float32"), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(audio.encode(silence))
        container.mux(audio.encode())
    return str(path)


def copy_video(source, target, change=lambda packets: packets, degrees=None, options=None):
    """Copies coded frames into another container; `change` returns the packets to write from a list."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if degrees is not None:
            stream.set_display_rotation(degrees)
        for packet in change([packet for packet in old.demux(video=0) if packet.size]):
            packet.stream = stream
            new.mux(packet)
    return str(target)


def join(target, *paths):
    """Writes the content of files one after the other, like `cat`."""
    pathlib.Path(target).write_bytes(b"".join(pathlib.Path(path).read_bytes() for path in paths))
    return str(target)


def put_together(target, paths, dispositions):
    """Writes the videos of several files as streams of one file, each with an `av.stream.Disposition`."""
    with contextlib.ExitStack() as stack:
        new = stack.enter_context(av.open(str(target), "w"))
        old = [stack.enter_context(av.open(str(path))) for path in paths]
        streams = [new.add_stream_from_template(container.streams.video[0]) for container in old]
        for stream, disposition in zip(streams, dispositions, strict=True):
            stream.disposition = disposition
        for container, stream in zip(old, streams, strict=True):
            for packet in container.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
    return str(target)


def packet_bytes(path):
    """Returns the bytes of each coded frame, as in the file, in decoding order."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def decode_all(path):
    """Returns every frame of a file in presentation order, uint8 `(F, H, W, 3)`."""
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def damage(path, number):
    """Overwrites a coded frame with zeros; `number` is its place in decoding order."""
    packet = packet_bytes(path)[number]
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data.replace(packet, bytes(len(packet)), 1))


def write_stated_size(path, height, width):
    """Writes AVI with 3 frames of 64x96 as bare pixels, and a header with another size."""
    path = pathlib.Path(write_video(path, codec="rawvideo", num_frames=3, height=64, width=96))
    data = bytearray(path.read_bytes())
    # The BITMAPINFOHEADER holds its own size, width and height.
    struct.pack_into("<II", data, data.index(b"strf") + 12, width, height)
    path.write_bytes(data)
    return str(path)


def write_stated_frames(path, count):
    """Writes an MP4 of a few kilobytes whose tables state `count` frames of one byte each."""
    path = pathlib.Path(write_video(path, options={"bf": "0", "g": "1"}))
    data = bytearray(path.read_bytes())
    tables = [(b"stsz", 8, (1, count)), (b"stts", 12, (count,)), (b"stsc", 16, (count,))]
    for kind, offset, values in tables:
        struct.pack_into(f">{len(values)}I", data, data.index(kind) + offset, *values)
    # Disable the edit list, which would hide the other frames.
    path.write_bytes(data.replace(b"edts", b"free"))
    return str(path)


def state_jpeg_size(image, height, width):
    """Returns the JPEG with another size in its header."""
    data = bytearray(image)
    # The start of frame of a baseline JPEG holds length, precision, height and width.
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def read_all(path):
    """Returns all frames, or `None` after a correct `VideoError`."""
    try:
        clip = frames.read_frames(path, range)
    except VideoError as error:
        assert str(error).startswith(f"{path}: ")
        assert error.kind in ERROR_KINDS
        return None
    assert clip.dtype == np.uint8 and clip.ndim == 4 and clip.shape[3] == 3
    return clip
