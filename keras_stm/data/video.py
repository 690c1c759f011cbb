"""Reads frames of a video file, and says what is wrong with a file.

The sizes that a file states are checked before memory is allocated for them. The limits are `MAX_BYTES` and
the constants below it. They also apply to folders of frames and to packed clips. Reading and preprocessing a
clip therefore takes at most 10 GiB, five times `MAX_BYTES`. Rejecting a file that states more takes less
than 1 GiB. These numbers are for one clip; each worker reads one clip at the same time.
"""

import collections
import contextlib
import functools
import heapq
import itertools
import math
import os
import threading
import typing

import numpy as np

from keras_stm.arguments import ArgumentError
from keras_stm.data import h264
from keras_stm.data.truncation import count_samples, has_unread_parts, has_whole_tables, is_truncated

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
# So many packets are read in a few milliseconds. Only longer files are worth a search or a place in memory.
_FAR = 1000
# Maximum entries of long files in memory, a quarter of a gigabyte.
_MOST_KEPT = 2**20
_kept = collections.OrderedDict()
# Clips are read by several threads.
_kept_lock = threading.Lock()
PIXEL_LIMIT = {"max_pixels": str(MAX_PIXELS)}
# Text formats that name other files. Those files would not be checked, and could form an endless loop.
_LISTS = {"concat", "dash", "hls", "sdp", "vobsub"}
# Seconds between two frames that mean a new clock, in formats of recordings that can be joined at any packet.
_NEW_CLOCK = 1


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
    """What a container states about a packet, which usually holds one coded frame, and if it is a field."""

    pts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_field: bool


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
    the groups of pictures that hold one of the frames are decoded. If the frames change their size, they
    are scaled to the size of the file's first frame.

    Attached and still pictures are ignored. Of several videos in the file, the one that is marked as
    the default is read; of several such, the one with the most frames.

    Args:
        path: video file in any container and codec that FFmpeg reads.
        indices: integers in any order, repeats allowed; or a function that maps the number of frames
            in the file to such integers, which saves opening the file twice to count them.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, rotated and mirrored as the file says.

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
            frames = _decode_groups(path, container, stream, entries, times[0], chosen)
            if frames is not None:
                return frames
    return _decode_and_count(path, indices, sum(not entry.is_discard for entry in entries))


def iterate_frames(path, indices=None):
    """Yields frames of a video file, like `read_frames`, but one at a time.

    Args:
        path: see `read_frames`.
        indices: `range` of consecutive frames. Only their groups of pictures are decoded, as in
            `read_frames`. `None` yields every frame.

    Raises:
        VideoError: see `read_frames`. A damaged part raises when it is reached.
    """
    size = None
    if indices is not None:
        for size, frame in _iterate_groups(path, indices):
            yield _to_rgb(path, frame, size, 1)
            indices = indices[1:]
        if not indices:
            return
    start, stop = (indices.start, indices.stop) if indices else (0, None)
    for number, frame in enumerate(itertools.islice(_decode_all(path), stop)):
        size = size or _upright_size(frame)
        if number >= start:
            yield _to_rgb(path, frame, size, 1)


def frame_times(path):
    """Returns when each frame of a video file is shown, in microseconds from the first frame.

    Returns:
        int64 array `(frames,)`, ascending.

    Raises:
        VideoError: see `read_frames`; or neither time stamps nor a frame rate tell the times.
    """
    with _open(path) as (container, stream):
        times, unit = _presentation_times(stream, _scan(path, container, stream)), stream.time_base
    if times is None:
        times = [frame.pts for frame in _decode_all(path)]
        if None in times or any(one >= other for one, other in itertools.pairwise(times)):
            rate = probe(path).frame_rate
            if rate is None:
                raise VideoError(path, "unreadable", "states no times of its frames")
            times, unit = range(len(times)), 1 / rate
    return np.rint((np.array(times, "int64") - times[0]) * (float(unit) * 1e6)).astype("int64")


def probe(path):
    """Returns the `VideoInfo` of a video file, with its mean frame rate.

    Decodes one frame, or all frames if the time stamps do not tell how many there are. Where the clock
    of the recording is set back, the time that passes is not known and not part of the mean.

    Raises:
        VideoError: see `read_frames`.
    """
    from av.format import Flags

    with _open(path) as (container, stream):
        entries = _scan(path, container, stream)
        times = _presentation_times(stream, entries)
        if times is None:
            times = [frame.pts for frame in _decode_all(path)]
            if container.format.name == "avi" or _is_stored_order(stream, entries):
                times = [None] * len(times)
        longest = _NEW_CLOCK if container.format.flags & Flags.ts_discont.value else math.inf
        rate = _mean_rate(times, stream.time_base, longest) or float(stream.average_rate or 0) or None
    height, width = next(iterate_frames(path)).shape[:2]
    return VideoInfo(len(times), height, width, rate, rate and len(times) / rate)


def stated_rate(path):
    """Returns the frame rate that a video file states, as a fraction, or `None`; it may be wrong.

    Raises:
        VideoError: see `read_frames`.
    """
    with _open(path) as (_, stream):
        return stream.average_rate


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
    """Yields a container and its video stream; turns FFmpeg's errors into `VideoError`."""
    import av  # imported here, because clips from memory need no PyAV

    try:
        if not os.path.isfile(path):
            raise VideoError(path, "missing", "no such file")
        if count_samples(path) > _MAX_SAMPLES:
            raise VideoError(path, "too large", f"states more than {_MAX_SAMPLES:,} frames")
        if is_truncated(path):
            _check_last_frame(path)
        if has_unread_parts(path):
            raise VideoError(
                path, "unreadable", "consists of joined files, of which FFmpeg reads only the first"
            )
        with _open_container(path) as container:
            stream = _choose_stream(path, container)
            codec = stream.codec_context
            if codec is None:
                raise VideoError(path, "unreadable", "FFmpeg cannot decode its codec")
            # Clips are read in parallel, so threads within one clip would only slow each other down.
            codec.thread_count = 1
            # Frames may be larger than the header states.
            codec.options = PIXEL_LIMIT
            if not codec.width:
                # With some codecs, FFmpeg drops a size that is over the limit.
                reason = f"its frames have more than {MAX_PIXELS:,} pixels, or no size"
                if _is_animated_webp(path):
                    expected = "convert it, for example to MP4 or to a folder of images"
                    raise VideoError(path, "unreadable", f"FFmpeg cannot decode animated WebP: {expected}")
                raise VideoError(path, "too large", reason)
            check_size(path, 1, codec.height, codec.width)
            yield container, stream
    except FileNotFoundError as error:
        raise VideoError(path, "missing", "no such file") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, "unreadable", f"not a video, or damaged ({error.strerror})") from error


def _is_animated_webp(path):
    """Returns whether a file is an animated WebP. Its flag is in the extended header."""
    with open(path, "rb") as file:
        header = file.read(21)
    return header[:4] == b"RIFF" and header[8:16] == b"WEBPVP8X" and bool(header[20:] and header[20] & 2)


def _open_container(path):
    import av

    # The path is absolute, because FFmpeg reads text before a colon as a protocol.
    return av.open(os.path.abspath(path), options=open_options(), metadata_errors="ignore")


def _check_last_frame(path):
    """Raises `VideoError` if the last frame of a file that is shorter than it states is not there."""
    import av

    count = 0
    with contextlib.suppress(av.FFmpegError, VideoError), _open_container(path) as container:
        stream = _choose_stream(path, container)
        for packet in container.demux(stream):
            if packet.is_corrupt:
                break
            count += packet.size > 0
        entries = stream.index_entries
        size = os.path.getsize(path)
        if (
            has_whole_tables(path)
            and len(entries)
            and all(entry.pos + entry.size <= size for entry in entries)
        ):
            return
    raise VideoError(path, "truncated", f"truncated after {count} frames")


def _choose_stream(path, container):
    """Returns the video stream that `read_frames` describes."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        raise VideoError(path, "no video stream", "holds no video stream")
    if len(streams) == 1:
        return streams[0]
    counts = _count_packets(path, [stream.index for stream in streams])
    moving = [stream for stream in streams if counts[stream.index] > 1]
    return max(
        moving or streams,
        key=lambda stream: (bool(stream.disposition & Disposition.default), counts[stream.index]),
    )


def _count_packets(path, indices):
    """Returns the number of packets in each of some streams; those behind an error do not count."""
    import av

    counts = collections.Counter()
    with contextlib.suppress(av.FFmpegError), _open_container(path) as container:
        for packet in container.demux([container.streams[index] for index in indices]):
            counts[packet.stream.index] += packet.size > 0
    return counts


@functools.cache
def open_options():
    """Returns which formats FFmpeg may open, and the pixel limit for sizes that only the decoder finds."""
    import av

    return {**PIXEL_LIMIT, "format_whitelist": ",".join(av.formats_available - _LISTS)}


def _packets(path, container, stream):
    """Yields each packet in stored order and its `_Entry`; raises `VideoError` if the packets break off."""
    import av

    count = 0
    codec = stream.codec_context
    fields = None
    # In MPEG-TS, this marks a gap in a counter, which joined files have, too. The decoder finds lost data.
    may_have_gaps = container.format.name == "mpegts"
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and may_have_gaps:
                packet.is_corrupt = False
            elif packet.is_corrupt:
                raise VideoError(path, "truncated", f"truncated after {count} frames")
            # PyAV's last packet is empty.
            if packet.size:
                if count == MAX_PACKETS:
                    raise VideoError(path, "too large", f"has more than {MAX_PACKETS:,} frames")
                if not count and codec.name == "h264":
                    fields = h264.field_coding(codec.extradata, bytes(packet))
                is_field = bool(fields) and h264.is_field(bytes(packet), fields)
                yield (
                    packet,
                    _Entry(packet.pts, packet.size, packet.is_keyframe, packet.is_discard, is_field),
                )
                count += 1
    except av.FFmpegError as error:
        raise VideoError(path, "truncated", f"truncated after {count} frames ({error.strerror})") from error


def _scan(path, container, stream):
    """Returns every `_Entry`, but no packets, because a file may be larger than the memory.

    The entries of long files are kept, because many parts of such a file may be read one by one.
    """
    status = os.stat(path)
    key = os.path.abspath(path), status.st_size, status.st_mtime_ns
    with _kept_lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    entries = [entry for _, entry in _packets(path, container, stream)]
    if all(entry.is_discard for entry in entries):
        raise VideoError(path, "unreadable", "holds no frames")
    if len(entries) > _FAR:
        with _kept_lock:
            _kept[key] = entries
            while len(_kept) > 1 and sum(map(len, _kept.values())) > _MOST_KEPT:
                _kept.popitem(last=False)
    return entries


def _presentation_times(stream, entries):
    """Returns the time stamps of the frames in presentation order; `None` if they do not tell it.

    The number of frames that headers state is often wrong.
    """
    times = [entry.pts for entry in entries]
    if not times or None in times or len(set(times)) < len(times):
        return None
    # Two packets may make one frame.
    if any(entry.is_field for entry in entries) or _is_stored_order(stream, entries):
        return None
    codec = stream.codec_context
    # VP8 may have frames that are never shown but that others depend on.
    if codec.name == "vp8":
        return None
    # Decoders drop all or most of the frames before the first key frame.
    if not entries[0].is_keyframe or times[0] > min(times):
        return None
    if not _rise(entries, codec.reorder_depth):
        return None
    # Frames that an edit list removes are in the file, but never shown.
    return sorted(entry.pts for entry in entries if not entry.is_discard)


def _is_stored_order(stream, entries):
    """Returns whether time stamps tell when packets are decoded, and not when frames are shown."""
    codec = stream.codec_context
    times = [entry.pts for entry in entries if entry.pts is not None]
    # FFmpeg derives such time stamps from the stored order, for example for AVI, which has none.
    if codec.has_b_frames and times == sorted(times):
        return True
    # A packet without a frame has up to 19 bytes. It exists if the encoder skipped a frame, or if another
    # packet holds two frames, like in part of UCF-101.
    return codec.name == "mpeg4" and min(entry.size for entry in entries) < 20


def _rise(entries, depth):
    """Returns whether time stamps rise in the order in which a decoder returns the frames.

    They do not if recordings were joined, or if the clock was set back during a recording.

    Args:
        entries: list of `_Entry` in stored order.
        depth: how many frames the decoder holds back to bring them into order.
    """
    latest = shown = -math.inf
    held = []
    for entry in entries:
        # Frames that are stored before a key frame are shown before it.
        if entry.is_keyframe and entry.pts < latest:
            return False
        latest = max(latest, entry.pts)
        heapq.heappush(held, entry.pts)
        if len(held) > depth:
            if held[0] < shown:
                return False
            shown = heapq.heappop(held)
    return True


def _mean_rate(times, time_base, longest):
    """Returns the mean number of frames per second; `None` if the time stamps do not tell it.

    Args:
        times: time stamp of each frame, in the order in which they are shown; `None` is unknown.
        time_base: unit of the time stamps in seconds, a `fractions.Fraction`.
        longest: seconds between two frames; a longer time, or one back, does not count.
    """
    known = [(number, time) for number, time in enumerate(times) if time is not None]
    numbers, steps = np.diff(known, axis=0).T if len(known) > 1 else np.zeros((2, 0), "int64")
    counted = (steps >= 0) & (steps * float(time_base) <= longest)
    # An exact fraction, so that 25 frames per second are exactly 25.
    total = int(steps[counted].sum()) * time_base
    return float(int(numbers[counted].sum()) / total) if total else None


def _decode_groups(path, container, stream, entries, first, chosen):
    """Reads the frames with the time stamps `chosen`; decodes only the groups of pictures that hold them.

    The frame with the time stamp `first` is decoded as well.

    Returns:
        See `read_frames`; `None` if the file contradicts its time stamps or is damaged.
    """
    import av

    wanted = set(chosen)
    frames = {}
    size = None
    try:
        # The first frame gives the size of all.
        for frame in _decode_runs(path, container, stream, entries, {first, *wanted}):
            if frame.is_corrupt:
                return None
            if size is None and frame.pts == first:
                size = _upright_size(frame)
            if size is not None and frame.pts in wanted:
                frames[frame.pts] = _to_rgb(path, frame, size, len(chosen))
    except av.FFmpegError:
        return None
    return np.stack([frames[time] for time in chosen]) if len(frames) == len(wanted) else None


def _iterate_groups(path, indices):
    """Yields the size of the first frame and a frame for each index, decoded like in `_decode_groups`.

    Stops early where that returns `None`.
    """
    import av

    with _open(path) as (container, stream):
        entries = _scan(path, container, stream)
        times = _presentation_times(stream, entries) or []
        upcoming = times[indices.start : indices.stop]
        if not upcoming:
            return
        wanted = set(upcoming)
        upcoming.reverse()
        size = None
        with contextlib.suppress(av.FFmpegError):
            for frame in _decode_runs(path, container, stream, entries, {times[0], *wanted}):
                if size is None and frame.pts == times[0]:
                    size = _upright_size(frame)
                if frame.pts in wanted:
                    if size is None or frame.is_corrupt or frame.pts != upcoming.pop():
                        return
                    yield size, frame


def _decode_runs(path, container, stream, entries, wanted):
    """Yields the frames of the packets in `_runs`; stops early if packets differ from the first pass."""
    context = stream.codec_context
    # Skip B-frames that no other frame depends on. FFmpeg identifies them reliably only in H.264.
    skip = "NONREF" if context.name == "h264" else "DEFAULT"
    end = -math.inf
    for start, stop in _runs(entries, wanted):
        if start - end > _FAR:
            numbered = _packets_up_to(start, path, container, stream, entries)
        end = stop
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


def _packets_up_to(start, path, container, stream, entries):
    """Returns an iterator of `(number, (packet, entry))`, which begins at or before the number `start`."""
    import av

    if start > _FAR:
        keyframes = {entry.pts: number for number, entry in enumerate(entries) if entry.is_keyframe}
        # Containers without an index may have no place to jump to, or jump elsewhere.
        with contextlib.suppress(av.FFmpegError):
            container.seek(entries[start].pts, stream=stream)
            packets = _packets(path, container, stream)
            first = next(packets, None)
            number = keyframes.get(first[1].pts) if first else None
            if number is not None and number <= start and first[1] == entries[number]:
                return enumerate(itertools.chain([first], packets), number)
    container.seek(entries[0].pts, stream=stream)
    return enumerate(_packets(path, container, stream))


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
        size = None
        total = 0
        for frame in _decode_all(path):
            size = size or _upright_size(frame)
            if total in wanted:
                frames[total] = _to_rgb(path, frame, size, len(chosen))
            total += 1
        if total == count or not callable(indices):
            return np.stack([frames[index] for index in resolve_indices(path, chosen, total)])
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


def _to_rgb(path, frame, size, count):
    """Returns a frame as an upright array of a `size`; raises if `count` such frames are `too_large`."""
    check_size(path, 1, frame.height, frame.width)
    check_size(path, count, *size)
    swaps, flips = _orientation(frame)
    height, width = reversed(size) if swaps else size
    # With its default number of threads, the conversion takes three times as long.
    rgb = frame.to_ndarray(format="rgb24", height=height, width=width, threads=1)
    return (rgb.swapaxes(0, 1) if swaps else rgb)[flips]


def upright_rgb(path, frame):
    """Returns a decoded frame as an upright uint8 array `(height, width, 3)`.

    Raises:
        VideoError: the frame is too large.
    """
    return _to_rgb(path, frame, _upright_size(frame), 1)


def _upright_size(frame):
    """Returns the height and width of a frame when it is upright."""
    swaps, _ = _orientation(frame)
    return (frame.width, frame.height) if swaps else (frame.height, frame.width)


def _orientation(frame):
    """Returns how to make a frame upright: whether to swap its sides, and then the slices that mirror it."""
    a, b, c, d = _display_matrix(frame)
    swaps = abs(b) > abs(a)
    x, y = (c, b) if swaps else (a, d)
    return swaps, np.s_[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1]


def _display_matrix(frame):
    """Returns `(a, b, c, d)`: the pixel (x, y) of a frame is shown at (a x + c y, b x + d y)."""
    from av.sidedata.sidedata import SideDataContainer, Type

    try:
        # `frame.side_data` refers back to the frame. Frames would stay in memory until garbage is collected.
        matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)
    except ValueError:
        # If a frame has side data of a kind that PyAV does not know, PyAV only tells the rotation.
        turn = math.radians(frame.rotation)
        return math.cos(turn), -math.sin(turn), math.sin(turn), math.cos(turn)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, "int32", 5).tolist()
    return a, b, c, d
