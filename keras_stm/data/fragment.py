"""Reads parts of a video file, which a path names like the W3C's media fragments: `clip.mp4#t=1.5,4`.

A part has the frames that are shown at or after its start and before its end. Times are seconds from the
first frame of the file, rounded to microseconds.
"""

import contextlib
import functools
import os
import re
import typing

import numpy as np

from keras_stm.data import video
from keras_stm.data.video import VideoError, VideoInfo, resolve_indices

EXPECTED = "#t=START,END with START before END, each in seconds, mm:ss or hh:mm:ss"
_MICRO = 10**6
# Files whose times are kept in memory; those of an hour take less than a megabyte.
_FILES = 128
_TIME = r"(?:(?:\d+:)?\d{1,2}:)?\d+(?:\.\d*)?"
_FRAGMENT = re.compile(rf"(?s)(.+)#t=(?:npt:)?(?:({_TIME})(?:,({_TIME}))?|,({_TIME}))")


class Part(typing.NamedTuple):
    """A video file, and the start and end of a part in microseconds; `None` is the end of the file."""

    file: str
    start: int
    end: int | None


def parse(path):
    """Returns the `Part` that a path names, or `None` if the path names a whole file.

    Accepted are `#t=1.5,4`, `#t=1.5` and `#t=,4`, with `npt:` in front of the times or without it. For
    times, see `microseconds`. The start is before the end. A file with such a name is a file.
    """
    match = _FRAGMENT.fullmatch(os.fspath(path))
    if not match or os.path.lexists(path):
        return None
    file, start, end, only_end = match.groups()
    start, end = microseconds(start or "0"), microseconds(end or only_end or "")
    is_wrong = start is None or (end is None and (match[3] or match[4])) or (end is not None and start >= end)
    return None if is_wrong else Part(file, start, end)


def check_name(path):
    """Raises `VideoError` if a path seems to name a part, but does not name one correctly."""
    if is_malformed(path):
        file = os.path.basename(os.fspath(path).rpartition("#t=")[0])
        raise VideoError(path, "unreadable", f"is not a part of {file}: expected {EXPECTED}")


def is_malformed(path):
    """Returns whether a path has the mark of a part of an existing file, but does not name one correctly."""
    file, mark, _ = os.fspath(path).rpartition("#t=")
    return bool(mark) and parse(path) is None and os.path.lexists(file) and not os.path.lexists(path)


def join(file, start, end):
    """Returns the path of a part of a file.

    Args:
        file: path of the video file.
        start: start in microseconds.
        end: end in microseconds; `None` is the end of the file.
    """
    return f"{file}#t={seconds_text(start)}" + ("" if end is None else f",{seconds_text(end)}")


def microseconds(text):
    """Returns a time as an integer of microseconds; `None` if the text is no time.

    Args:
        text: seconds, `mm:ss` or `hh:mm:ss`, with or without decimals.
    """
    if not re.fullmatch(_TIME, text, re.ASCII) or len(text) > 40:
        return None
    *larger, seconds = text.split(":")
    larger = [int(field) for field in larger]
    if larger and (float(seconds) >= 60 or larger[-1] >= 60):
        return None
    minutes = sum(field * factor for field, factor in zip(reversed(larger), (1, 60), strict=False))
    return minutes * 60 * _MICRO + round(float(seconds) * _MICRO)


def seconds_text(micro):
    """Returns microseconds as text in seconds, without zeros at the end."""
    return f"{micro // _MICRO}.{micro % _MICRO:06d}".rstrip("0").rstrip(".")


def count_frames(path):
    """Returns the number of frames of a part.

    Raises:
        VideoError: the file cannot be read, see `video.read_frames`; or the part has no frames.
    """
    return len(_indices(path))


def read_frames(path, indices):
    """Reads frames of a part by their 0-based index in the part; see `video.read_frames`.

    Raises:
        VideoError: see `count_frames`.
        ValueError: an index is out of range.
    """
    inside = _indices(path)
    chosen = [inside[index] for index in resolve_indices(path, indices, len(inside))]
    with _named(path) as file:
        return video.read_frames(file, chosen)


def iterate_frames(path):
    """Yields every frame of a part, one at a time; see `video.iterate_frames`.

    Raises:
        VideoError: see `count_frames`.
    """
    inside = _indices(path)
    with _named(path) as file:
        yield from video.iterate_frames(file, inside)


def probe(path):
    """Returns the `VideoInfo` of a part, with its mean frame rate; the rate of one frame is that of the file.

    Raises:
        VideoError: see `count_frames`.
    """
    inside = _indices(path)
    times = frame_times(parse(path).file)
    rate = _rate(times[inside.start : inside.stop]) or _rate(times)
    height, width = read_frames(path, [0]).shape[1:3]
    return VideoInfo(len(inside), height, width, rate, rate and len(inside) / rate)


def times_of_part(path):
    """Returns when each frame of a part is shown, in microseconds from the first frame of the file.

    Raises:
        VideoError: see `count_frames`.
    """
    inside = _indices(path)
    return frame_times(parse(path).file)[inside.start : inside.stop]


def frame_times(file):
    """Returns `video.frame_times` of a file, which are kept for the last files."""
    status = os.stat(file) if os.path.isfile(file) else None
    return _frame_times(file, status and (status.st_size, status.st_mtime_ns))


@functools.lru_cache(_FILES)
def _frame_times(file, state):
    return video.frame_times(file)


def _rate(times):
    """Returns the mean frame rate of frames with these times; `None` for a single frame."""
    return float(_MICRO * (len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else None


def _indices(path):
    """Returns the indices of the part's frames in its file, as a `range` of at least one."""
    part = parse(path)
    with _named(path) as file:
        times = frame_times(file)
    stop = len(times) if part.end is None else np.searchsorted(times, part.end)
    inside = range(int(np.searchsorted(times, part.start)), int(stop))
    if not inside:
        end = "the end" if part.end is None else f"{seconds_text(part.end)} s"
        raise VideoError(
            path,
            "unreadable",
            f"has no frames from {seconds_text(part.start)} s to {end}; the last frame of the file is at "
            f"{seconds_text(int(times[-1]))} s",
        )
    return inside


@contextlib.contextmanager
def _named(path):
    """Yields the file of a part; errors about the file get the path of the part."""
    file = parse(path).file
    try:
        if os.path.isdir(file):
            raise VideoError(file, "unreadable", "is part of a folder of frames, which states no times")
        yield file
    except VideoError as error:
        raise VideoError(path, error.kind, error.args[2]) from error
