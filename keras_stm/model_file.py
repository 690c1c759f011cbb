"""Class names and clip settings in a `.keras` file.

The file is a zip archive. Keras reads only its own members, so the archive can hold more.
"""

import json
import os
import typing
import zipfile

from keras_stm.arguments import ArgumentError, lines, one_of, positive_int, positive_number
from keras_stm.class_names import to_lines
from keras_stm.preprocessing import SAMPLING

# File name of the model in the folder of a run.
MODEL = "model.keras"
CLASS_NAMES = "class_names.txt"
_CLIP = "clip.json"


class ClipSettings(typing.NamedTuple):
    """Settings of the clips that a model was trained on; see `keras_stm.data.make_pipeline`.

    `rate` is the frames a second of a typical clip, or `None` where the length of the clips is not known.
    """

    num_frames: int
    image_size: int
    sampling: str
    rate: float | None = None


def annotate(path, class_names, clip):
    """Adds class names, in the order of the scores, and `ClipSettings` to a `.keras` file.

    Raises:
        ValueError: there is no such file, or an argument is not as above.
    """
    class_names, clip = lines("class_names", class_names), _checked(*clip)
    # Appending to any other file would turn it into a zip archive.
    if not zipfile.is_zipfile(path):
        raise ArgumentError("path", path, "must be a .keras file")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CLASS_NAMES, to_lines(class_names))
        # Without an unknown rate, files stay as before.
        known = {name: value for name, value in clip._asdict().items() if value is not None}
        archive.writestr(_CLIP, json.dumps(known))


def read_class_names(path):
    """Returns the class names from a weights file or from `class_names.txt` next to it, or `None`.

    Raises:
        ValueError: the class names are not in UTF-8.
    """
    names, source = _read(path, CLASS_NAMES), path
    if names is None:
        source = os.path.join(os.path.dirname(path), CLASS_NAMES)
        if not os.path.isfile(source):
            return None
        with open(source, "rb") as file:
            names = file.read()
    try:
        # Some editors write a byte order mark at the start.
        return tuple(names.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: class names must be UTF-8 ({error.reason})") from error


def read_clip(path):
    """Returns the `ClipSettings` in a `.keras` file, or `None`."""
    content = _read(path, _CLIP)
    return None if content is None else _checked(**json.loads(content))


def _checked(num_frames, image_size, sampling, rate=None):
    return ClipSettings(
        positive_int("num_frames", num_frames),
        positive_int("image_size", image_size),
        one_of("sampling", sampling, SAMPLING),
        None if rate is None else positive_number("rate", rate),
    )


def _read(path, name):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if name in archive.namelist():
                return archive.read(name)
    return None
