"""A folder of frames, as Something-Something v1 and Jester ship each clip, and frame indices -> frames."""

import os
import stat

import numpy as np

from keras_stm.data import jpeg
from keras_stm.data.video import MAX_BYTES, VideoError, VideoInfo, check_size, resolve_indices

FRAME_EXTENSIONS = (".jpeg", ".jpg")


def list_frames(folder):
    """File names of the frames of a folder, in order, at least one.

    Raises:
        VideoError: there is no such folder, or it holds no frames.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise VideoError(folder, "missing", f"no folder of frames ({error.strerror})") from error
    # Archives made on a Mac hold a hidden file that is no image beside each that is.
    names = [n for n in names if n.lower().endswith(FRAME_EXTENSIONS) and not n.startswith(".")]
    # So that 10.jpg comes after 9.jpg.
    names.sort(key=lambda name: (len(name), name))
    if not names:
        raise VideoError(folder, "unreadable", "a folder without .jpg files")
    return names


def count_frames(folder):
    """Number of frames in a folder.

    Raises:
        VideoError: as `list_frames`.
    """
    return len(list_frames(folder))


def read_frames(folder, indices):
    """Frames of a folder by their 0-based place among its JPEG files, in the order of their numbers.

    Args:
        folder: a folder of `.jpg` files of one size; any other file in it is ignored.
        indices: integers in any order, repeats allowed, or a function from the number of frames in
            the folder to such integers.

    Returns:
        uint8 array `(len(indices), height, width, 3)`, RGB, scaled down as `jpeg.decode` does.

    Raises:
        VideoError: there is no such folder, it holds no frames, or one of those asked for is
            damaged, not as large as the others or larger than `video.too_large` allows.
        ValueError: an index is out of range.
    """
    names = list_frames(folder)
    indices = resolve_indices(folder, indices, len(names))
    # A clip that is longer than its video, or many clips of it, have frames in common.
    unique, places = np.unique(indices, return_inverse=True)
    frames = _decode(folder, [names[index] for index in unique])
    check_size(folder, len(indices), *frames.shape[1:3])
    # Picking copies, which takes half as long as decoding.
    return frames if unique.tolist() == indices else frames[places]


def probe(folder):
    """`VideoInfo` of a folder, from its first frame; it does not say how fast they are shown.

    Raises:
        VideoError: as `read_frames`.
    """
    names = list_frames(folder)
    first = _decode(folder, names[:1], short_side=jpeg.MAX_SIDE)[0]
    return VideoInfo(len(names), first.shape[0], first.shape[1], None, None)


def read_image(folder, name, max_bytes=MAX_BYTES):
    """The bytes of the file of one frame.

    Raises:
        VideoError: there is no such file, or it has more than `max_bytes`.
    """
    path = os.path.join(folder, name)
    try:
        status = os.stat(path)
        # A pipe would be waited for.
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(folder, "missing", f"{name} is no file")
        if status.st_size > max_bytes:
            raise VideoError(folder, "too large", f"its frames have more than {MAX_BYTES:,} bytes")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise VideoError(folder, "missing", f"{name} cannot be read ({error.strerror})") from error


def _decode(folder, names, **arguments):
    images = []
    for name in names:
        images.append(read_image(folder, name, MAX_BYTES - sum(map(len, images))))
    try:
        return jpeg.decode(images, **arguments)
    except jpeg.JpegError as error:
        raise VideoError(folder, error.kind, f"{names[error.index]} {error.reason}") from error
