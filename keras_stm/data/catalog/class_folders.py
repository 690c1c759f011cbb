"""Opens data sets with one folder per class, such as a user's own clips."""

import os
import warnings

from keras_stm.arguments import ArgumentError
from keras_stm.data.catalog.clips import find_splits
from keras_stm.data.dataset import Dataset
from keras_stm.data.frame_folder import FRAME_EXTENSIONS
from keras_stm.data.video import VIDEO_EXTENSIONS

_SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}


def open_folder(root, split, exclude, *, validation_split, seed):
    """Opens class folders, directly in `root` or under `train`, `validation` and `test`.

    Records are sorted by class, then by name.
    """
    if not os.path.isdir(root):
        raise ArgumentError("root", root, "must be an existing folder")
    folders = _split_folders(root)
    train_folder = folders.get("train", root)
    train = _clips_by_class(train_folder)
    if len(train) < 2:
        raise ArgumentError(
            "root",
            root,
            f"must hold at least two class folders with clips, found {len(train)} ({', '.join(train)})",
        )
    if split == "test" and "test" not in folders:
        raise ArgumentError(
            "split",
            split,
            f"must be 'train' or 'validation': {root} has no folder 'test' next to a folder 'train'",
        )
    clips = _clips_by_class(folders[split]) if split != "train" and split in folders else train
    unknown = sorted(set(clips) - set(train))
    if unknown:
        raise ArgumentError(
            "root",
            root,
            f"must hold only classes of train for {split}, but train has no {', '.join(map(repr, unknown))}",
        )
    records = [(path, label) for label, name in enumerate(train) for path in clips.get(name, ())]
    dataset = Dataset(records, tuple(train)).without(exclude)
    if split == "test" or "validation" in folders:
        return dataset
    return dataset.part(split, validation_split, seed, train_folder)


def _split_folders(root):
    """Returns `{split: folder}` of the folders in `root`; none if `root` holds the classes themselves."""
    found = find_splits(root, _SPLIT_FOLDERS)
    # If `train` has clips but no class folders, it is a class itself, for example of trains.
    if not os.path.isdir(found.get("train", "")) or not any(map(_clips, _subfolders(found["train"]))):
        return {}
    for path in found.values():
        if not os.path.isdir(path):
            # A link to a missing disk is an error, and does not count as no folder.
            raise ValueError(f"{path}: expected a folder of class folders")
    return found


def _clips_by_class(root):
    """Returns `{class name: paths of its clips}`, both sorted; skips folders without a clip."""
    clips = {}
    for folder in _subfolders(root):
        paths = _clips(folder)
        if paths:
            clips[os.path.basename(folder)] = paths
        else:
            warnings.warn(f"{folder} holds no video or folder of frames, so it is not a class", stacklevel=4)
    if not clips:
        raise ArgumentError(
            "root",
            root,
            f"must hold one folder of clips per class, but no folder in {root} holds a clip: a video "
            f"({', '.join(VIDEO_EXTENSIONS)}) or a folder of {' or '.join(FRAME_EXTENSIONS)} "
            "files",
        )
    return clips


def _clips(folder):
    """Returns the sorted paths of the video files and folders of frames in a folder.

    A folder that is named like a video counts too. Reading it raises an error later.
    """
    return sorted(
        entry.path
        for entry in _visible(folder)
        if entry.name.lower().endswith(VIDEO_EXTENSIONS)
        or (
            entry.is_dir()
            and any(frame.name.lower().endswith(FRAME_EXTENSIONS) for frame in _visible(entry.path))
        )
    )


def _subfolders(folder):
    return sorted(entry.path for entry in _visible(folder) if entry.is_dir())


def _visible(folder):
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
