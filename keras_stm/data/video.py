"""A video file and frame indices -> frames, and what is wrong with a file."""

import contextlib
import os

import numpy as np

VIDEO_EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


class VideoError(ValueError):
    """A video file that cannot be read; the message names the file and what is wrong with it."""


def count_frames(path):
    """Number of frames in a video file.

    Raises:
        VideoError: there is no such file, or it is no video.
    """
    with _open(path) as (stream, packets):
        return _count(packets)


def read_frames(path, indices):
    """Frames of a video file by their 0-based place in presentation order.

    Args:
        path: a video file in any container and codec that FFmpeg reads.
        indices: integers in any order, repeats allowed; or a function from the number of frames in
            the file to such integers, which saves opening the file once more to count them.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, turned upright where the file says so.

    Raises:
        VideoError: there is no such file, it is no video, it has no frame of one of the indices, or
            it is damaged before the last of them.
    """
    with _open(path) as (stream, packets):
        count = _count(packets)
        indices = np.asarray(indices(count) if callable(indices) else indices)
        if not indices.size or indices.min() < 0 or indices.max() >= count:
            raise VideoError(
                f"{path}: `indices` must be integers from 0 to {count - 1}. "
                f"Received: indices={indices.tolist()!r}"
            )
        indices = indices.tolist()
        last = max(indices)
        frames = {}
        decoded = 0
        for frame in _decode(stream, packets):
            if decoded in indices:
                frames[decoded] = _upright_rgb(frame)
            if decoded == last:
                return np.stack([frames[index] for index in indices])
            decoded += 1
    raise VideoError(f"{path}: damaged, only {decoded} of its {count} frames can be decoded")


@contextlib.contextmanager
def _open(path):
    """Gives the first video stream and all its packets; FFmpeg's errors leave as `VideoError`."""
    import av  # here, so that clips from memory need no PyAV

    if not os.path.isfile(path):
        raise VideoError(f"{path}: no such file")
    try:
        with av.open(os.fspath(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            # Clips are read side by side: threads within one only get in each other's way.
            stream.codec_context.thread_count = 1
            packets = [packet for packet in container.demux(stream) if packet.size]
            if not packets:
                raise VideoError(f"{path}: holds no frames")
            yield stream, packets
    except av.FFmpegError as error:
        raise VideoError(f"{path}: not a video, or damaged ({error.strerror})") from error


def _count(packets):
    # What headers state is often wrong; what an edit list cuts off is in the file, but never shown.
    return sum(not packet.is_discard for packet in packets)


def _decode(stream, packets):
    for packet in packets:
        yield from packet.decode()
    yield from stream.codec_context.decode(None)


def _upright_rgb(frame):
    # With its default number of threads the conversion takes three times as long.
    rgb = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(rgb, round(frame.rotation / 90))
