"""Reads frames of a video file, and says what is wrong with a file.

The sizes that a file states are checked before memory is allocated for them. The limits are `MAX_BYTES` and
the constants below it. They also apply to folders of frames and to packed clips. Reading and preprocessing a
clip therefore takes at most 10 GiB, five times `MAX_BYTES`. Rejecting a file that states more takes less
than 1 GiB. These numbers are for one clip; each worker reads one clip at the same time.
"""

import contextlib
import functools
import os
import typing

import numpy as np

from keras_stm.arguments import ArgumentError
from keras_stm.data.truncation import count_samples, is_truncated

VIDEO_EXTENSIONS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif"),
    *(".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)

# What can be wrong with a file, in the words of `VideoError` and of the commands.
KINDS = ("missing", "unreadable", "no video stream", "truncated", "too large")

# Maximum bytes of the frames of one clip.
MAX_BYTES = 2**31
# Maximum pixels of one frame, those of 8K: a decoder holds up to about twenty frames.
MAX_PIXELS = 2**25
# Maximum ratio of the long side of a frame to the short one: 256 x 1 pixels would become 65536 x 256.
MAX_RATIO = 32
# Maximum coded frames of one file, 19 hours at 30 per second: a list of them takes half a gigabyte.
MAX_PACKETS = 2**21

# This includes the frames of sound, which may be more.
_MAX_SAMPLES = 4 * MAX_PACKETS
_PIXELS = {"max_pixels": str(MAX_PIXELS)}
# Text formats that name other files. Those files would not be checked, and could form an endless loop.
_LISTS = {"concat", "dash", "hls", "sdp", "vobsub"}


class VideoError(ValueError):
    """A clip that cannot be read.

    Args:
        path: path of the clip.
        kind: one of `KINDS`.
        message: what is wrong with the clip, without its path.

    Attributes:
        path: path of the clip, as a str.
        kind: as given.
    """

    def __init__(self, path, kind, message):
        # All three are passed, so that the error can be pickled to another process.
        super().__init__(path, kind, message)
        self.path = os.fspath(path)
        self.kind = kind

    def __str__(self):
        return f"{self.path}: {self.args[2]}"


class VideoInfo(typing.NamedTuple):
    """Contents of a file; `height` and `width` are those of the upright frame, and `None` is unknown."""

    num_frames: int
    height: int
    width: int
    frame_rate: float | None
    seconds: float | None


class _Entry(typing.NamedTuple):
    """What a container states about a packet, which usually holds one coded frame."""

    pts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool


def count_frames(path):
    """Returns the number of frames in a video file.

    Raises:
        VideoError: see `read_frames`.
    """
    with _open(path) as (container, stream):
        times = _presentation_times(stream, _scan(path, container, stream))
    return _count_by_decoding(path) if times is None else len(times)


def read_frames(path, indices):
    """Reads frames of a video file by their 0-based index in presentation order.

    The frames are the same as if the whole file were decoded. If its time stamps tell the order, only
    the groups of pictures that hold one of the frames are decoded.

    Args:
        path: video file in any container and codec that FFmpeg reads.
        indices: integers in any order, repeats allowed; or a function that maps the number of frames
            in the file to such integers, which saves opening the file twice to count them.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, rotated upright if the file says so.

    Raises:
        VideoError: the file does not exist, is not a video, is truncated, is damaged at the requested
            frames, or has more or larger frames than the limits above allow.
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
    """Yields every frame of a video file, like `read_frames`, but one at a time.

    Raises:
        VideoError: see `read_frames`. A damaged part raises when it is reached.
    """
    for frame in _decode_all(path):
        yield _to_rgb(path, frame, 1)


def probe(path):
    """Returns the `VideoInfo` of a video file, with its mean frame rate.

    Decodes one frame, or all frames if the time stamps do not tell how many there are.

    Raises:
        VideoError: see `read_frames`.
    """
    with _open(path) as (container, stream):
        times = _presentation_times(stream, _scan(path, container, stream))
        rate = float(stream.average_rate or 0) or None
        if times is not None and len(times) > 1:
            # Headers state the intended rate, if any, which may differ from the mean.
            rate = float((len(times) - 1) / ((times[-1] - times[0]) * stream.time_base))
    num_frames = _count_by_decoding(path) if times is None else len(times)
    height, width = next(iterate_frames(path)).shape[:2]
    return VideoInfo(num_frames, height, width, rate, rate and num_frames / rate)


def resolve_indices(path, indices, count):
    """Returns `indices` as a list of integers; see `read_frames`.

    Raises:
        ValueError: there are none, or one is not the index of one of the file's `count` frames.
    """
    indices = np.asarray(indices(count) if callable(indices) else indices)
    if not indices.size or indices.min() < 0 or indices.max() >= count:
        raise ArgumentError(
            "indices", indices.tolist(), f"must be integers from 0 to {count - 1}, the frames of {path}"
        )
    return indices.tolist()


def check_size(path, count, height, width):
    """Raises `VideoError` if `count` frames of a size are `too_large`."""
    reason = too_large(count, height, width)
    if reason:
        raise VideoError(path, "too large", reason)


def too_large(count, height, width):
    """Returns why frames exceed the limits above, or `None` if they do not."""
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
    """Yields a container and its first video stream; turns FFmpeg's errors into `VideoError`."""
    import av  # imported here, because clips from memory need no PyAV

    try:
        if not os.path.isfile(path):
            raise VideoError(path, "missing", "no such file")
        if is_truncated(path):
            raise VideoError(path, "truncated", "truncated, it is shorter than it states")
        if count_samples(path) > _MAX_SAMPLES:
            raise VideoError(path, "too large", f"states more than {_MAX_SAMPLES:,} frames")
        # The path is absolute, because FFmpeg reads text before a colon as a protocol.
        with av.open(os.path.abspath(path), options=_options(), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(path, "no video stream", "holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(path, "unreadable", "uses a codec that FFmpeg does not know")
            # Clips are read in parallel, so threads within one clip would only slow each other down.
            stream.codec_context.thread_count = 1
            # Frames may be larger than the header states.
            stream.codec_context.options = _PIXELS
            if not stream.codec_context.width:
                # With some codecs, FFmpeg drops a size that is over the limit.
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
    """Returns which formats FFmpeg may open, and the pixel limit for sizes that only the decoder finds."""
    import av

    return {**_PIXELS, "format_whitelist": ",".join(av.formats_available - _LISTS)}


def _packets(path, container, stream):
    """Yields each packet in stored order and its `_Entry`; raises `VideoError` if the packets break off."""
    import av

    count = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError(path, "truncated", f"truncated after {count} frames")
            # PyAV's last packet is empty.
            if packet.size:
                if count == MAX_PACKETS:
                    raise VideoError(path, "too large", f"has more than {MAX_PACKETS:,} frames")
                yield packet, _Entry(packet.pts, packet.size, packet.is_keyframe, packet.is_discard)
                count += 1
    except av.FFmpegError as error:
        raise VideoError(path, "truncated", f"truncated after {count} frames ({error.strerror})") from error


def _scan(path, container, stream):
    """Returns every `_Entry`, but no packets, because a file may be larger than the memory."""
    entries = [entry for _, entry in _packets(path, container, stream)]
    if all(entry.is_discard for entry in entries):
        raise VideoError(path, "unreadable", "holds no frames")
    return entries


def _presentation_times(stream, entries):
    """Returns the time stamps of the frames in presentation order; `None` if they do not tell it.

    The number of frames that headers state is often wrong.
    """
    times = [entry.pts for entry in entries]
    if not times or None in times or len(set(times)) < len(times):
        return None
    codec = stream.codec_context
    # FFmpeg derives such time stamps from the stored order, for example for AVI, which has none.
    if codec.has_b_frames and times == sorted(times):
        return None
    # A packet without a frame has up to 19 bytes. It exists if the encoder skipped a frame, or if another
    # packet holds two frames, like in part of UCF-101.
    if codec.name == "mpeg4" and min(entry.size for entry in entries) < 20:
        return None
    # VP8 may have frames that are never shown but that others depend on.
    if codec.name == "vp8":
        return None
    # Decoders drop all or most of the frames before the first key frame.
    if not entries[0].is_keyframe or times[0] > min(times):
        return None
    # Frames that an edit list removes are in the file, but never shown.
    return sorted(entry.pts for entry in entries if not entry.is_discard)


def _decode_groups(path, container, stream, entries, chosen):
    """Reads the frames with the time stamps `chosen`; decodes only the groups of pictures that hold them.

    Returns:
        See `read_frames`; `None` if the file contradicts its time stamps or is damaged.
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
    """Yields the frames of the packets in `_runs`; stops early if packets differ from the first pass."""
    context = stream.codec_context
    # Skip B-frames that no other frame depends on. FFmpeg identifies them reliably only in H.264.
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
    """Returns the runs of packets to decode, each as the numbers of its first, a key frame, and its last."""
    keyframes = []
    runs = []
    for i, entry in enumerate(entries):
        if entry.is_keyframe:
            keyframes.append(i)
        if entry.pts in wanted:
            # In an open group of pictures, frames after the key frame may be shown before it, and
            # depend on the previous group.
            start = next(k for k in reversed(keyframes) if entries[k].pts <= entry.pts)
            while runs and start <= runs[-1][1]:
                start = min(start, runs.pop()[0])
            runs.append((start, i))
    return runs


def _decode_and_count(path, indices, count):
    """Does `read_frames` by decoding the whole file, which probably has `count` frames."""
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
    """Yields every frame in presentation order, at least one."""
    entries = []
    count = 0
    with _open(path) as (container, stream):

        def packets():
            for packet, entry in _packets(path, container, stream):
                entries.append(entry)
                yield packet
            # This flushes the frames that the decoder still holds.
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
    """Returns a frame as an upright array; raises if `count` frames of its size are `too_large`."""
    check_size(path, count, frame.height, frame.width)
    # With its default number of threads, the conversion takes three times as long.
    rgb = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(rgb, round(frame.rotation / 90))


def _stack(path, frames):
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError(path, "unreadable", "its frames change their size")
    return np.stack(frames)
