"""Opens text files that have a clip and its label in each line."""

import functools
import os

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog.annotations import by_name, integer, read_lines, read_names
from keras_stm.data.catalog.clips import find_splits, to_dataset
from keras_stm.data.video import VIDEO_EXTENSIONS

_FILES = {"train": ("train.txt",), "validation": ("validation.txt", "val.txt"), "test": ("test.txt",)}
# Without `classes.txt`, a larger number is another column, and would fill the memory with names.
_MOST_CLASSES = 100_000


def open_list(root, split, exclude, *, validation_split, seed):
    """Opens the clips of `<split>.txt`.

    Classes are those of `classes.txt`, or else the numbers up to the largest in any list.
    """
    lists = _find_lists(root)
    if split == "test" and "test" not in lists:
        raise ArgumentError("split", split, "must be 'train' or 'validation', because there is no test.txt")
    folder = os.path.dirname(lists["train"])
    classes_file = os.path.join(folder, "classes.txt")
    class_names = read_names(classes_file) if os.path.lexists(classes_file) else None
    accepted = range(len(class_names) if class_names else _MOST_CLASSES)
    parse = functools.partial(_parse, folder=folder, accepted=accepted)
    labels_of = {name: by_name(read_lines(path), parse) for name, path in lists.items()}
    if class_names is None:
        largest = max(label for labels in labels_of.values() for label in labels.values())
        class_names = tuple(map(str, range(largest + 1)))
    labels = labels_of.get(split, labels_of["train"])
    dataset = to_dataset(folder, labels, _existing(folder, labels), class_names, exclude)
    if split == "test" or "validation" in lists:
        return dataset
    return dataset.part(split, validation_split, seed, folder)


def _find_lists(root):
    """Returns `{split: path of its list}`."""
    if os.path.isfile(root) and root.endswith(".txt"):
        return {"train": root}
    lists = find_splits(root, _FILES)
    if "train" not in lists:
        raise ArgumentError("root", root, "must be a folder with train.txt, or a .txt file")
    return lists


def _parse(line, folder, accepted):
    """Returns `(path, label)` of a line; the path is relative to `folder` if the clip is inside it."""
    path, label = _last_field(line.value)
    label = integer(label, accepted)
    front, num_frames = _last_field(path)
    if num_frames.isdecimal():
        path, is_clip = front, integer(num_frames, range(1, 10**9)) is not None
    else:
        is_clip = path.lower().endswith(VIDEO_EXTENSIONS)
    if not is_clip or label is None:
        raise line.expected(
            "`path label` for a video or `path num_frames label` for a folder of frames, "
            f"with a label from 0 to {accepted.stop - 1}"
        )
    # The path is normalised, so that a clip that is listed twice is found.
    return os.path.normpath(os.path.join(folder, path)).removeprefix(os.path.join(folder, "")), label


def _last_field(text):
    """Splits a line before its last field; if there is only one field, the second part is empty."""
    front, field = (*text.rsplit(maxsplit=1), "", "")[:2]
    return front, field


def _existing(folder, names):
    """Returns `{name: path}` of the clips that exist; see `find_clips` for why folders are listed."""

    @functools.cache
    def listed(parent):
        try:
            return frozenset(os.listdir(parent))
        except OSError:
            return frozenset()

    paths = {name: os.path.join(folder, name) for name in names}
    return {
        name: path for name, path in paths.items() if os.path.basename(path) in listed(os.path.dirname(path))
    }
