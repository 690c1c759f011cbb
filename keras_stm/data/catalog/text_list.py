"""Opens text files that have a clip and its label in each line."""

import dataclasses
import functools
import os

from keras_stm.arguments import ArgumentError
from keras_stm.data import fragment, grouping
from keras_stm.data.catalog.annotations import by_name, integer, read_lines, read_names
from keras_stm.data.catalog.clips import SPLIT_NAMES, find_splits, to_dataset
from keras_stm.data.frames import file_of
from keras_stm.data.searching import is_video

_FILES = {split: tuple(f"{name}.txt" for name in names) for split, names in SPLIT_NAMES.items()}
# Without `classes.txt`, a larger number is another column, and would fill the memory with names.
_MOST_CLASSES = 100_000


def open_list(root, split, exclude, *, validation_split, seed, group_by):
    """Opens the clips of `<split>.txt`.

    Classes are those of `classes.txt`, or else the numbers up to the largest in any list.
    """
    lists = _find_lists(root)
    grouping.check_use(group_by, lists.get("validation"))
    if split == "test" and "test" not in lists:
        raise ArgumentError("split", split, "must be 'train' or 'validation', because there is no test.txt")
    folder = os.path.dirname(lists["train"])
    classes_file = os.path.join(folder, "classes.txt")
    class_names = read_names(classes_file) if os.path.lexists(classes_file) else None
    accepted = range(len(class_names) if class_names else _MOST_CLASSES)
    parse = functools.partial(_parse, folder=folder, accepted=accepted)
    clips_of = {name: by_name(read_lines(path, "surrogateescape"), parse) for name, path in lists.items()}
    if class_names is None:
        largest = max(label for clips in clips_of.values() for label, _ in clips.values())
        class_names = tuple(map(str, range(largest + 1)))
    clips = clips_of.get(split, clips_of["train"])
    labels = {name: label for name, (label, _) in clips.items()}
    paths = _existing(folder, labels)
    dataset = to_dataset(folder, labels, paths, class_names, exclude)
    stated = {paths[name]: count for name, (_, count) in clips.items() if count and name in paths}
    dataset = dataclasses.replace(dataset, stated_frames=stated)
    if split == "test" or "validation" in lists:
        return dataset
    group_of = grouping.key_function(group_by, folder, folder, False, [path for path, _ in dataset.records])
    return dataset.part(split, validation_split, seed, folder, group_of)


def _find_lists(root):
    """Returns `{split: path of its list}`."""
    if os.path.isfile(root) and root.endswith(".txt"):
        return {"train": root}
    lists = find_splits(root, _FILES)
    if "train" not in lists:
        raise ArgumentError("root", root, "must be a folder with train.txt, or a .txt file")
    return lists


def _parse(line, folder, accepted):
    """Returns `(path, (label, num_frames))` of a line.

    The path is relative to `folder` if the clip is inside it. `num_frames` is `None` for a video, because
    programs that count the frames of videos disagree.
    """
    path, label = _last_field(line.value)
    label = integer(label, accepted)
    front, last = _last_field(path)
    num_frames = None
    if last.isdecimal():
        path, num_frames = front, integer(last, range(1, 10**9))
        is_clip = num_frames is not None
    else:
        is_clip = is_video(_file(folder, path))
    if fragment.is_malformed(os.path.join(folder, path)):
        raise line.expected(fragment.EXPECTED)
    if not is_clip or label is None:
        raise line.expected(
            "`path label` for a video or `path num_frames label` for a folder of frames, "
            f"with a label from 0 to {accepted.stop - 1}"
        )
    # The path is normalised, so that a clip that is listed twice is found.
    name = os.path.normpath(os.path.join(folder, path)).removeprefix(os.path.join(folder, ""))
    return name, (label, None if is_video(_file(folder, name)) else num_frames)


def _file(folder, name):
    return file_of(os.path.join(folder, name))


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

    def exists(path):
        folder, name = os.path.split(file_of(path))
        return name in listed(folder)

    return {name: path for name, path in paths.items() if exists(path)}
