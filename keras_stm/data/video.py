"""A video file and frame indices -> frames, and what is wrong with a file.

What a file states is checked before memory is taken for it, by `MAX_BYTES` and the limits below it, for
folders of frames and packed clips too. So reading and preparing a clip takes at most 10 GiB, five times
`MAX_BYTES`; a file that states more is refused for less than 1 GiB. That is for one clip: as many as there
are workers are read at the same time.
"""

import contextlib
import functools
import os
import typing

import numpy as np

from keras_stm.arguments import ArgumentError
from keras_stm.data.truncation import count_samples, is_truncated

VIDEO_EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

# What can be wrong with a file, as a `VideoError` and the commands state it.
KINDS = ("missing", "unreadable", "no video stream", "truncated", "too large")

# Bytes that the frames of one clip may take.
MAX_BYTES = 2**31
# Pixels of one frame, which are those of 8K: a decoder holds up to some twenty frames.
MAX_PIXELS = 2**25
# How many times a frame may be as long as wide: 256 x 1 pixels would become 65536 x 256.
MAX_RATIO = 32
# Coded frames of one file, of which a list is made that takes half a gigabyte: 19 hours at 30 a second.
MAX_PACKETS = 2**21

# With those of sound, which may be more.
_MAX_SAMPLES = 4 * MAX_PACKETS
_PIXELS = {"max_pixels": str(MAX_PIXELS)}
# Text that names other files: those would not be checked, and may be the same file again, without end.
_LISTS = {"concat", "dash", "hls", "sdp", "vobsub"}


class VideoError(ValueError):
    """A clip that cannot be read: `path`, `kind` of `KINDS`, and a message of what is wrong with it."""

    def __init__(self, path, kind, message):
        # All three, so that the error can be sent between processes.
        super().__init__(path, kind, message)
        self.path = os.fspath(path)
        self.kind = kind

    def __str__(self):
        return f"{self.path}: {self.args[2]}"


class VideoInfo(typing.NamedTuple):
    """What a file holds, `height` and `width` as shown upright; `None` is unknown."""

    num_frames: int
    height: int
    width: int
    frame_rate: float | None
    seconds: float | None


class _Entry(typing.NamedTuple):
    """What a container says of a packet, which is as a rule one coded frame."""

    pts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool


def count_frames(path):
    """Number of frames in a video file.

    Raises:
        VideoError: as `read_frames`.
    """
    with _open(path) as (container, stream):
        times = _presentation_times(stream, _scan(path, container, stream))
    return _count_by_decoding(path) if times is None else len(times)


def read_frames(path, indices):
    """Frames of a video file by their 0-based place in presentation order.

    They are those of decoding the whole file; where its time stamps tell the order, only the groups
    of pictures that hold one of them are decoded.

    Args:
        path: a video file in any container and codec that FFmpeg reads.
        indices: integers in any order, repeats allowed; or a function from the number of frames in
            the file to such integers, which saves opening the file once more to count them.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, turned upright where the file says so.

    Raises:
        VideoError: there is no such file, it is no video, it is shorter than it says, it is damaged
            where the frames are, or it has more or larger ones than the limits above allow.
        ValueError: an index is out of range.
    """
    with _open(path) as (container, stream):
        entries = _scan(path, container, stream)
        times = _presentation_times(stream, entries)
        if times is not None:
            chosen = [times[index] for index in resolve_indices(path, indices, len(times))]
            check_size(path, len(chosen), stream.codec_context.height, stream.codec_context.width)
            frames = _decode_groups(path, container, stream, entries, chosen)
            if frames is not None:
                return frames
    return _decode_and_count(path, indices, sum(not entry.is_discard for entry in entries))


def iterate_frames(path):
    """Gives every frame of a video file as `read_frames` does, but one at a time.

    Raises:
        VideoError: as `read_frames`, once what is damaged is reached.
    """
    for frame in _decode_all(path):
        yield _to_rgb(path, frame, 1)


def probe(path):
    """`VideoInfo` of a video file, the frame rate being its mean.

    Decodes one frame, and all where the time stamps do not tell how many there are.

    Raises:
        VideoError: as `read_frames`.
    """
    with _open(path) as (container, stream):
        times = _presentation_times(stream, _scan(path, container, stream))
        rate = float(stream.average_rate or 0) or None
        if times is not None and len(times) > 1:
            # What headers state is the rate that was meant, if any.
            rate = float((len(times) - 1) / ((times[-1] - times[0]) * stream.time_base))
    num_frames = _count_by_decoding(path) if times is None else len(times)
    height, width = next(iterate_frames(path)).shape[:2]
    return VideoInfo(num_frames, height, width, rate, rate and num_frames / rate)


def resolve_indices(path, indices, count):
    """`indices` as a list of integers; see `read_frames`.

    Raises:
        ValueError: there are none, or one is not a frame of the file's `count`.
    """
    indices = np.asarray(indices(count) if callable(indices) else indices)
    if not indices.size or indices.min() < 0 or indices.max() >= count:
        raise ArgumentError(
            "indices", indices.tolist(), f"must be integers from 0 to {count - 1}, the frames of {path}"
        )
    return indices.tolist()


def check_size(path, count, height, width):
    """Raises `VideoError` where `count` frames of a size are `too_large`."""
    reason = too_large(count, height, width)
    if reason:
        raise VideoError(path, "too large", reason)


def too_large(count, height, width):
    """Why frames are more than the limits above allow, `None` where they are not."""
    frames = f"frames of {width}x{height}"
    if height * width > MAX_PIXELS:
        return f"{frames} have more than {MAX_PIXELS:,} pixels"
    if max(height, width) > MAX_RATIO * min(height, width):
        return f"{frames} are more than {MAX_RATIO} times as long as wide"
    if count * height * width * 3 > MAX_BYTES:
        return f"{count} {frames} take more than {MAX_BYTES:,} bytes"
    return None


@contextlib.contextmanager
def _open(path):
    """Gives a container and its first video stream; FFmpeg's errors leave as `VideoError`."""
    import av  # here, so that clips from memory need no PyAV

    try:
        if not os.path.isfile(path):
            raise VideoError(path, "missing", "no such file")
        if is_truncated(path):
            raise VideoError(path, "truncated", "cut off, it is shorter than it says")
        if count_samples(path) > _MAX_SAMPLES:
            raise VideoError(path, "too large", f"states more than {_MAX_SAMPLES:,} frames")
        # Not a relative path, as FFmpeg takes what is before a colon for a protocol.
        with av.open(os.path.abspath(path), options=_options(), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(path, "no video stream", "holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(path, "unreadable", "in a codec that FFmpeg does not know")
            # Clips are read side by side: threads within one only get in each other's way.
            stream.codec_context.thread_count = 1
            # The frames may be larger than the header says.
            stream.codec_context.options = _PIXELS
            if not stream.codec_context.width:
                # With some codecs FFmpeg forgets what is over the limit.
                raise VideoError(
                    path, "too large", f"its frames have more than {MAX_PIXELS:,} pixels, or no size"
                )
            check_size(path, 1, stream.codec_context.height, stream.codec_context.width)
            yield container, stream
    except FileNotFoundError as error:
        raise VideoError(path, "missing", "no such file") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, "unreadable", f"not a video, or damaged ({error.strerror})") from error


@functools.cache
def _options():
    """What FFmpeg may open; the limit is for decoders that find out what a header does not say."""
    import av

    return {**_PIXELS, "format_whitelist": ",".join(av.formats_available - _LISTS)}


def _packets(path, container, stream):
    """Gives each packet as it is stored and its `_Entry`; where they break off, raises `VideoError`."""
    import av

    count = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError(path, "truncated", f"cut off after {count} frames")
            # The last one of PyAV is empty.
            if packet.size:
                if count == MAX_PACKETS:
                    raise VideoError(path, "too large", f"has more than {MAX_PACKETS:,} frames")
                yield packet, _Entry(packet.pts, packet.size, packet.is_keyframe, packet.is_discard)
                count += 1
    except av.FFmpegError as error:
        raise VideoError(path, "truncated", f"cut off after {count} frames ({error.strerror})") from error


def _scan(path, container, stream):
    """Every `_Entry`. The packets are not kept: a file may be larger than the memory."""
    entries = [entry for _, entry in _packets(path, container, stream)]
    if all(entry.is_discard for entry in entries):
        raise VideoError(path, "unreadable", "holds no frames")
    return entries


def _presentation_times(stream, entries):
    """Time stamps of the frames in the order they are shown; `None` where they do not tell it.

    What headers state of the number of frames is often wrong.
    """
    times = [entry.pts for entry in entries]
    if not times or None in times or len(set(times)) < len(times):
        return None
    codec = stream.codec_context
    # Made up from the order in which frames are stored, as for AVI, which has no time stamps.
    if codec.has_b_frames and times == sorted(times):
        return None
    # A packet without a frame has up to 19 bytes. It is there where a frame was left out when it was
    # made, or where another packet holds two, as in part of UCF-101.
    if codec.name == "mpeg4" and min(entry.size for entry in entries) < 20:
        return None
    # There may be frames that are never shown and others depend on.
    if codec.name == "vp8":
        return None
    # Decoders drop what comes before the first key frame, or most of it.
    if not entries[0].is_keyframe or times[0] > min(times):
        return None
    # What an edit list cuts off is in the file, but never shown.
    return sorted(entry.pts for entry in entries if not entry.is_discard)


def _decode_groups(path, container, stream, entries, chosen):
    """Frames of the time stamps `chosen`, from the groups of pictures that hold them and no others.

    Returns:
        As `read_frames`; `None` where the file is not as its time stamps say, or is damaged.
    """
    import av

    wanted = set(chosen)
    frames = {}
    try:
        for frame in _decode_runs(path, container, stream, entries, wanted):
            if frame.is_corrupt:
                return None
            if frame.pts in wanted:
                frames[frame.pts] = _to_rgb(path, frame, len(chosen))
    except av.FFmpegError:
        return None
    return _stack(path, [frames[time] for time in chosen]) if len(frames) == len(wanted) else None


def _decode_runs(path, container, stream, entries, wanted):
    """Decodes the packets that `_runs` gives; ends early where others are found than in the first pass."""
    context = stream.codec_context
    # B-frames on which no other depends are skipped. FFmpeg knows them for sure in H.264 alone.
    skip = "NONREF" if context.name == "h264" else "DEFAULT"
    container.seek(entries[0].pts, stream=stream)
    numbered = enumerate(_packets(path, container, stream))
    for start, stop in _runs(entries, wanted):
        for i, (packet, entry) in numbered:
            if entry != entries[i]:
                return
            if i >= start:
                context.skip_frame = "DEFAULT" if packet.pts in wanted else skip
                yield from context.decode(packet)
            if i == stop:
                break
        yield from context.decode(None)
        context.flush_buffers()


def _runs(entries, wanted):
    """Packets to decode, as the numbers of the first, a key frame, and the last of each run."""
    keyframes = []
    runs = []
    for i, entry in enumerate(entries):
        if entry.is_keyframe:
            keyframes.append(i)
        if entry.pts in wanted:
            # In an open group of pictures the key frame comes before frames that are shown before
            # it and depend on the group before.
            start = next(k for k in reversed(keyframes) if entries[k].pts <= entry.pts)
            while runs and start <= runs[-1][1]:
                start = min(start, runs.pop()[0])
            runs.append((start, i))
    return runs


def _decode_and_count(path, indices, count):
    """`read_frames` by decoding the whole file, which is likely to have `count` frames."""
    while True:
        chosen = np.asarray(indices(count) if callable(indices) else indices).tolist()
        wanted = set(chosen)
        frames = {}
        total = 0
        for frame in _decode_all(path):
            if total in wanted:
                frames[total] = _to_rgb(path, frame, len(chosen))
            total += 1
        if total == count or not callable(indices):
            return _stack(path, [frames[index] for index in resolve_indices(path, chosen, total)])
        count = total


def _count_by_decoding(path):
    return sum(1 for _ in _decode_all(path))


def _decode_all(path):
    """Gives every frame in presentation order, at least one."""
    entries = []
    count = 0
    with _open(path) as (container, stream):

        def packets():
            for packet, entry in _packets(path, container, stream):
                entries.append(entry)
                yield packet
            # For the frames that the decoder still holds back.
            yield None

        for packet in packets():
            for frame in stream.codec_context.decode(packet):
                if frame.is_corrupt:
                    raise VideoError(path, "unreadable", f"frame {count} is damaged")
                yield frame
                count += 1
        total = len(_presentation_times(stream, entries) or [None])
    if count < total:
        raise VideoError(path, "unreadable", f"damaged, only {count} of {total} frames can be decoded")


def _to_rgb(path, frame, count):
    """A frame as an array, upright, where `count` of its size are not too much."""
    check_size(path, count, frame.height, frame.width)
    # With its default number of threads the conversion takes three times as long.
    rgb = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(rgb, round(frame.rotation / 90))


def _stack(path, frames):
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError(path, "unreadable", "its frames change their size")
    return np.stack(frames)
