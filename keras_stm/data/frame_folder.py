"""Reads frames from a folder, the form in which Something-Something v1 and Jester ship each clip."""

import os
import stat

import numpy as np

from keras_stm.data import frame_names, images
from keras_stm.data.video import MAX_BYTES, VideoError, VideoInfo, check_size, resolve_indices

FRAME_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def list_frames(folder):
    """Returns the file names of the frames of a folder, in order, at least one; see `frame_names.sort`.

    Raises:
        VideoError: the folder does not exist, holds no frames, or holds several kinds of images of which
            none or several look like RGB frames.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise VideoError(folder, "missing", f"the folder cannot be read ({error.strerror})") from error
    # In archives made on a Mac, each image has a hidden file next to it that is not an image.
    names = [n for n in names if n.lower().endswith(FRAME_EXTENSIONS) and not n.startswith(".")]
    if not names:
        raise VideoError(folder, "unreadable", f"the folder holds no {', '.join(FRAME_EXTENSIONS)} files")
    try:
        return frame_names.sort(names)
    except frame_names.SeveralKinds as error:
        raise VideoError(folder, "unreadable", f"the folder {error}") from error


def count_frames(folder):
    """Returns the number of frames in a folder.

    Raises:
        VideoError: see `list_frames`.
    """
    return len(list_frames(folder))


def read_frames(folder, indices):
    """Reads frames of a folder by their 0-based index, sorted by the numbers in their names.

    Args:
        folder: folder of JPEG, PNG, BMP or WebP files of one upright size. Other files are ignored.
        indices: integers in any order, repeats allowed, or a function that maps the number of frames
            in the folder to such integers.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, scaled down by `images.decode`.

    Raises:
        VideoError: see `list_frames`; or a requested frame is damaged,
            differs in size from the others, or exceeds the limits of `video.too_large`.
        ValueError: an index is out of range.
    """
    names = list_frames(folder)
    indices = resolve_indices(folder, indices, len(names))
    # Each file is decoded once, although a long clip or several clips of a video may repeat frames.
    unique, places = np.unique(indices, return_inverse=True)
    frames = _decode(folder, [names[index] for index in unique])
    check_size(folder, len(indices), *frames.shape[1:3])
    # Indexing copies the frames, which takes half as long as decoding.
    return frames if unique.tolist() == indices else frames[places]


def probe(folder):
    """Returns the `VideoInfo` of a folder, from its first frame; the frame rate is unknown.

    Raises:
        VideoError: see `read_frames`.
    """
    names = list_frames(folder)
    first = _decode(folder, names[:1], short_side=images.MAX_SIDE)[0]
    return VideoInfo(len(names), first.shape[0], first.shape[1], None, None)


def read_image(folder, name, max_bytes=MAX_BYTES):
    """Returns the bytes of the file of one frame.

    Raises:
        VideoError: the file does not exist or has more than `max_bytes`.
    """
    path = os.path.join(folder, name)
    try:
        status = os.stat(path)
        # Opening a pipe would wait for data.
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(folder, "missing", f"{name} is not a regular file")
        if status.st_size > max_bytes:
            raise VideoError(folder, "too large", f"its frames have more than {MAX_BYTES:,} bytes")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise VideoError(folder, "missing", f"{name} cannot be read ({error.strerror})") from error


def _decode(folder, names, **arguments):
    files = []
    for name in names:
        files.append(read_image(folder, name, MAX_BYTES - sum(map(len, files))))
    try:
        return images.decode(files, **arguments)
    except images.ImageError as error:
        raise VideoError(folder, error.kind, f"{names[error.index]} {error.reason}") from error
