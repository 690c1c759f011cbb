"""What lies in a data set's folder -> records of (path, label)."""

import dataclasses
import os
import warnings

import numpy as np

from keras_stm.arguments import one_of
from keras_stm.data.video import VIDEO_EXTENSIONS

NAMES = ("folder",)
SPLITS = ("train", "validation", "test")
_SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes:
        records: list of `(path, label)`, the label an index into `class_names`.
        class_names: tuple of str, the same for every split.
    """

    records: list
    class_names: tuple


def open_dataset(name, root, split="train", validation_split=0.2, seed=0):
    """Opens one split of a data set on disk.

    `"folder"` is any folder that holds one folder of videos per class, or such folders under
    `train`, `validation` (also `val` or `valid`) and `test`. Where there is no validation folder a
    part of each class is set apart from training: at least one video of two or more, never all.

    Args:
        name: `"folder"`.
        root: the data set's folder.
        split: `"train"`, `"validation"`, or `"test"` where there is a folder of that name.
        validation_split: the part of each class, above 0 and below 1, that is set apart for
            validation where there is no folder for it.
        seed: chooses which videos these are.

    Returns:
        `Dataset` with `records` and `class_names`. Classes are the folders under `train` in sorted
        order; records are in the order of class, then file name.

    Raises:
        ValueError: an argument is not as above, the folder holds no such split, fewer than two
            classes or no video, or a split has a class that training lacks.
    """
    one_of("name", name, NAMES)
    one_of("split", split, SPLITS)
    if not 0 < validation_split < 1:
        raise ValueError(
            f"`validation_split` must be above 0 and below 1. Received: validation_split={validation_split!r}"
        )
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise ValueError(f"`root` must be an existing folder. Received: root={root!r}")

    folders = _split_folders(root)
    train = _videos_by_class(folders.get("train", root))
    if len(train) < 2:
        raise ValueError(
            "`root` must hold at least two class folders with videos, "
            f"found {len(train)} ({', '.join(train)}). Received: root={root!r}"
        )
    class_names = tuple(train)

    if split == "test" and "test" not in folders:
        raise ValueError(
            f"`split` must be 'train' or 'validation', as {root} has no folder 'test' beside a "
            f"folder 'train'. Received: split={split!r}"
        )
    if split == "test" or "validation" in folders:
        videos = train if split == "train" else _videos_by_class(folders[split])
        unknown = sorted(set(videos) - set(train))
        if unknown:
            raise ValueError(
                f"`root` must hold no other classes for {split} than for train, which has no "
                f"{', '.join(map(repr, unknown))}. Received: root={root!r}"
            )
    else:
        videos = _set_apart(train, split, validation_split, seed)

    records = [
        (path, label) for label, class_name in enumerate(class_names) for path in videos.get(class_name, ())
    ]
    if not records:
        raise ValueError(
            f"`root` must hold two videos of some class to set one apart for validation. "
            f"Received: root={root!r}"
        )
    return Dataset(records, class_names)


def _split_folders(root):
    """The split folders under `root` by name; none where `root` holds the classes themselves."""
    found = {
        split: os.path.join(root, folder)
        for split, folders in _SPLIT_FOLDERS.items()
        for folder in folders
        if os.path.isdir(os.path.join(root, folder))
    }
    # Videos directly under `train` make it a class, say of vehicles.
    return found if "train" in found and _visible(found["train"], os.path.isdir) else {}


def _videos_by_class(root):
    """Class name -> paths of its videos, both sorted; folders without a video are left out."""
    videos = {}
    for name in _visible(root, os.path.isdir):
        folder = os.path.join(root, name)
        files = [
            os.path.join(folder, file)
            for file in _visible(folder, os.path.isfile)
            if file.lower().endswith(VIDEO_EXTENSIONS)
        ]
        if files:
            videos[name] = files
        else:
            warnings.warn(f"{folder} holds no video and is no class", stacklevel=3)
    if not videos:
        raise ValueError(
            "`root` must hold one folder of videos per class, "
            f"but no file in a folder under {root} ends in {', '.join(VIDEO_EXTENSIONS)}. "
            f"Received: root={root!r}"
        )
    return videos


def _visible(folder, is_kind):
    return sorted(
        name
        for name in os.listdir(folder)
        if not name.startswith(".") and is_kind(os.path.join(folder, name))
    )


def _set_apart(videos, split, validation_split, seed):
    """The part of each class that belongs to `split`, "train" or "validation"."""
    rng = np.random.default_rng(seed)
    parts = {}
    for class_name, paths in videos.items():
        count = min(max(1, round(len(paths) * validation_split)), len(paths) - 1)
        apart = set(rng.permutation(len(paths))[:count].tolist())
        parts[class_name] = [path for i, path in enumerate(paths) if (i in apart) == (split == "validation")]
    return parts
