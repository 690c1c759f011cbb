"""Sources of frames in time: files, cameras, streams of a network, and iterators.

A source yields `Frame`s at the rate that a model takes. `Lossless` yields all of them, however long the
model takes for each. `Newest` reads in a thread and keeps only the newest, as a camera does not wait.
"""

import collections.abc
import contextlib
import math
import numbers
import os
import re
import stat
import threading
import time
import typing

import numpy as np
from absl import logging

from keras_stm.arguments import ArgumentError
from keras_stm.data import frames
from keras_stm.data.video import PIXEL_LIMIT, VideoError, open_options, upright_rgb

# Protocols of FFmpeg that a URL may begin with.
PROTOCOLS = ("http", "https", "rtsp", "rtsps", "rtmp", "udp")
# Seconds until a connection counts as failed, to open it and between two pieces of data.
OPEN_SECONDS = 10
READ_SECONDS = 5
# Seconds to wait before the first attempt to reconnect. Each wait is twice the one before, up to the limit.
FIRST_WAIT = 1
LONGEST_WAIT = 30
# Time stamps that are so many seconds from the passed time tell that the clock of a source was set.
_NEW_CLOCK = 5
# A frame is taken if it comes at most this part of a period too early. Cameras are not exactly regular.
_TOO_EARLY = 0.25
# Seconds that closing waits for the thread, which may be reading from a silent source.
_CLOSING = 1
# The defaults of FFmpeg collect seconds of video before the first frame is decoded.
_SHORT_ANALYSIS = {"analyzeduration": "500000", "fpsprobesize": "0"}
# With UDP, the default, RTSP loses parts of frames.
_RTSP = {"rtsp_flags": "prefer_tcp"}


class Frame(typing.NamedTuple):
    """One frame of a source.

    Attributes:
        time: when the frame was shown, in seconds. It counts from the first frame of the source; the times of
            an iterator stay as they are.
        image: uint8 array `(height, width, 3)`, RGB.
        arrived: value of `time.monotonic` when the frame was there.
        is_first: whether it is the first frame of the source or after a reconnection.
    """

    time: float
    image: np.ndarray
    arrived: float
    is_first: bool


def open_source(source, rate, realtime=False, reconnect=False):
    """Opens a source of frames.

    Args:
        source: see `VideoClassifier.stream`.
        rate: frames per second to yield, by the times of the source.
        realtime: see `VideoClassifier.stream`.
        reconnect: see `VideoClassifier.stream`.

    Returns:
        `Lossless` or `Newest`.

    Raises:
        VideoError: the source cannot be opened.
        ValueError: another argument is invalid, or does not suit the source.
    """
    is_text = isinstance(source, str | os.PathLike)
    if not is_text and not isinstance(source, collections.abc.Iterable):
        raise ArgumentError(
            "source", source, "must be a path, a device, a URL or an iterable of (seconds, frame)"
        )
    address = os.fspath(source) if is_text else None
    is_live = is_text and is_address(address)
    if reconnect and not is_live:
        raise ArgumentError("reconnect", reconnect, "must be False, as only devices and URLs break off")
    if is_live:
        return Newest(lambda stop: _connect(address), without_password(address), rate, reconnect)
    if not is_text:
        if realtime:
            raise ArgumentError("realtime", realtime, "must be False, as only files can be played")
        return Lossless(_check_frames(source), rate)
    if os.path.isdir(address):
        raise VideoError(address, "unreadable", "is a folder, whose frames have no times")
    # Here, so that an error of the file is raised immediately.
    times = frames.frame_times(address)
    if realtime:
        return Newest(lambda stop: _play(address, times, stop), address, rate)
    return Lossless(_read(address, times), rate)


def is_address(source):
    """Returns whether text is a URL or a device, and not a file.

    Raises:
        ValueError: it is a URL with an unknown protocol.
        VideoError: it is the path of a missing device.
    """
    protocol = re.match(r"([a-zA-Z][\w+.-]*)://", source)
    if protocol:
        if protocol[1].lower() not in PROTOCOLS:
            shown = without_password(source)
            raise ArgumentError(
                "source", shown, f"must be a path, or a URL of {', '.join(PROTOCOLS)}", f"source={shown!r}"
            )
        return True
    if os.path.exists(source):
        return stat.S_ISCHR(os.stat(source).st_mode)
    if re.fullmatch(r"/dev/video\d+", source):
        raise VideoError(source, "missing", "no such device")
    return False


def without_password(address):
    """Returns a URL without the name and the password of a user."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


class Lossless:
    """Iterator over all frames of a source that the model takes.

    Attributes:
        dropped: 0, as no frame is dropped.
        reconnections: 0, as such a source is not connected.
    """

    dropped = 0
    reconnections = 0

    def __init__(self, timed, rate):
        self._timed = timed
        self._frames = self._iterate(timed, _Ticks(rate))

    @staticmethod
    def _iterate(timed, ticks):
        is_first = True
        for seconds, image in timed:
            if ticks.take(seconds):
                yield Frame(seconds, image, time.monotonic(), is_first)
                is_first = False

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._frames)

    def close(self):
        """Closes the file."""
        self._frames.close()
        self._timed.close()


class Newest:
    """Iterator over the newest frames of a source, which a thread reads.

    The constructor waits for the first frame or an error. The thread ends with the source, or after `close`.

    Args:
        open_frames: function that opens the source. It takes a `threading.Event` that ends waiting, and
            returns a generator of `(stamp, get_image)`: the time of a frame by the source's clock in seconds
            or `None`, and a function that returns the image.
        name: name of the source in messages.
        rate: frames per second to yield, by the clock of the source.
        reconnect: whether to open the source again when it breaks off.

    Attributes:
        dropped: number of frames that a newer one has replaced.
        reconnections: number of connections after the first.

    Raises:
        VideoError: the source cannot be opened.
    """

    def __init__(self, open_frames, name, rate, reconnect=False):
        self.dropped = 0
        self.reconnections = 0
        self._open_frames = open_frames
        self._name = name
        self._reconnect = reconnect
        self._ticks = _Ticks(rate)
        self._clock = _Clock()
        self._stop = threading.Event()
        # The lock of what both threads use: the frame, and how the source ended.
        self._changed = threading.Condition()
        self._frame = None
        self._has_ended = False
        self._error = None
        self._thread = threading.Thread(target=self._run, name=f"frames of {name}", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._wait()
                if self._frame is None and self._error:
                    raise self._error
        except BaseException:
            self._stop.set()
            raise

    def __iter__(self):
        return self

    def __next__(self):
        with self._changed:
            self._wait()
            frame, self._frame = self._frame, None
            if frame is not None:
                return frame
            error, self._error = self._error, None
        raise error or StopIteration

    def close(self):
        """Ends the thread, which closes the source."""
        self._stop.set()
        self._end(None)
        self._thread.join(_CLOSING)

    def _wait(self):
        while self._frame is None and not self._has_ended:
            self._changed.wait()

    def _run(self):
        try:
            self._read_connections()
        except BaseException as error:  # any error belongs to the thread that uses the frames
            self._end(error)
        else:
            self._end(None)

    def _read_connections(self):
        wait = FIRST_WAIT
        while True:
            reason = "has ended"
            is_first = True
            try:
                with contextlib.closing(self._open_frames(self._stop)) as opened:
                    for stamp, get_image in opened:
                        if self._stop.is_set():
                            return
                        if is_first:
                            self._begin_connection()
                            wait = FIRST_WAIT
                        is_first &= not self._offer(stamp, get_image, is_first)
            except VideoError as error:
                if not self._reconnect or not self._clock.has_begun:
                    raise
                reason = error.args[2]
            if not self._reconnect or self._stop.is_set():
                return
            logging.warning("%s: %s; connecting again in %d s", self._name, reason, wait)
            if self._stop.wait(wait):
                return
            wait = min(2 * wait, LONGEST_WAIT)

    def _begin_connection(self):
        if self._clock.has_begun:
            self.reconnections += 1
        self._clock.begin()

    def _offer(self, stamp, get_image, is_first):
        """Replaces the frame that waits if the model takes this one; returns whether it does."""
        arrived = time.monotonic()
        seconds = self._clock.read(stamp, arrived)
        if not self._ticks.take(seconds):
            return False
        frame = Frame(seconds, get_image(), arrived, is_first)
        with self._changed:
            if self._frame is not None:
                self.dropped += 1
                frame = frame._replace(is_first=frame.is_first or self._frame.is_first)
            self._frame = frame
            self._changed.notify_all()
        return True

    def _end(self, error):
        with self._changed:
            if not self._has_ended:
                self._has_ended, self._error = True, error
            self._changed.notify_all()


class _Ticks:
    """Chooses frames at a rate: the first of each period, or one that comes slightly too early."""

    def __init__(self, rate):
        self._rate = rate
        self._start = None
        self._due = 0

    def take(self, seconds):
        """Returns whether to take the frame of a time; times ascend."""
        if self._start is None:
            self._start = seconds
        # Periods are counted from the start, so that errors do not add up.
        periods = math.floor((seconds - self._start) * self._rate + _TOO_EARLY)
        if periods < self._due:
            return False
        self._due = periods + 1
        return True


class _Clock:
    """Time of a live source in seconds from its first frame, which ascends although time stamps may jump."""

    def __init__(self):
        self._start = None
        self._offset = None
        self._last = 0.0

    @property
    def has_begun(self):
        return self._start is not None

    def begin(self):
        """Starts a connection, whose time stamps may begin anywhere."""
        self._offset = None

    def read(self, stamp, arrived):
        """Returns the time of a frame.

        Args:
            stamp: time by the clock of the source; `None` if it is unknown.
            arrived: value of `time.monotonic` when the frame came.
        """
        if self._start is None:
            self._start = arrived
        passed = arrived - self._start
        if stamp is None:
            seconds = passed
        else:
            if self._offset is None or not self._is_plausible(stamp + self._offset, passed):
                self._offset = max(passed, self._last) - stamp
            seconds = stamp + self._offset
        self._last = max(seconds, self._last)
        return self._last

    def _is_plausible(self, seconds, passed):
        return seconds >= self._last and abs(seconds - passed) <= _NEW_CLOCK


def _check_frames(source):
    """Yields the `(seconds, frame)` of a user's iterable.

    Raises:
        ValueError: an item is not as above, or the times descend.
    """
    last = -math.inf
    for item in source:
        is_pair = isinstance(item, tuple | list) and len(item) == 2
        seconds, image = item if is_pair else (None, None)
        if not _is_time(seconds) or not _is_image(image):
            shape = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            received = f"({seconds!r}, {shape})" if is_pair else type(item).__name__
            raise ArgumentError(
                "source",
                item,
                "must yield (seconds, frame), with frames uint8 (height, width, 3)",
                f"an item of source: {received}",
            )
        if seconds < last:
            raise ArgumentError(
                "source", seconds, f"must yield times that do not descend, after {last}", f"seconds={seconds}"
            )
        last = seconds
        yield float(seconds), image


def _is_time(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_image(value):
    is_image = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3
    return is_image and value.shape[2] == 3 and value.size > 0


def _read(path, times):
    """Yields each frame of a file, with its seconds from the first."""
    for micro, image in zip(times, frames.iterate_frames(path), strict=True):
        yield int(micro - times[0]) / 1e6, image


def _play(path, times, stop):
    """Yields each frame of a file when it is shown, like a camera; ends early when `stop` is set."""
    start = time.monotonic()
    for seconds, image in _read(path, times):
        if stop.wait(max(start + seconds - time.monotonic(), 0)):
            return
        yield seconds, lambda image=image: image


def _connect(address):
    """Yields the frames of a device or URL as they come; see `Newest`.

    Raises:
        VideoError: there is no connection, it breaks off, or it has no video.
    """
    import av  # here: other sources need no PyAV

    name = without_password(address)
    is_url = "://" in address
    options = {**open_options(), **(_SHORT_ANALYSIS | _RTSP if is_url else {})}
    what = "cannot be opened"
    try:
        with av.open(
            address,
            format=None if is_url else "v4l2",
            options=options,
            metadata_errors="ignore",
            timeout=(OPEN_SECONDS, READ_SECONDS),
        ) as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                raise VideoError(name, "no video stream", "sends no video that FFmpeg can decode")
            what = "has broken off"
            codec = stream.codec_context
            codec.thread_count = 1
            codec.options = PIXEL_LIMIT
            for packet in container.demux(stream):
                for frame in _decode(packet):
                    yield frame.time, lambda frame=frame: upright_rgb(name, frame)
    except av.error.ExitError as error:
        # FFmpeg's error of a timeout, whose text would be about its request to exit.
        raise VideoError(name, "unreadable", f"{what} (no data for seconds)") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(name, "unreadable", f"{what} ({error.strerror})") from error


def _decode(packet):
    """Returns the intact frames of a packet.

    Whoever joins a stream between two key frames, or loses a packet, gets damaged ones for a moment.
    """
    import av

    try:
        return [frame for frame in packet.decode() if not frame.is_corrupt]
    except av.error.InvalidDataError:
        return []
